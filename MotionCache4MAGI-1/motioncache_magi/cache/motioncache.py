"""MotionCache on MAGI-1: distances between embedded latents, motion weights in latent space."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.field_types import require_range
from motioncache.grid import TokenGrid
from motioncache.policies.distance import Distance
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape
from motioncache_magi.cache.config import MagiReuseConfig
from motioncache_magi.sampling.schedule import WindowSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiMotionCacheConfig(MagiReuseConfig):
    """MotionCache: decides token by token; see `MagiReuseConfig` for the rest.

    The defaults are the published configuration, but for the switches that it leaves out.

    Args:
        warmup: last denoise step of a chunk, counted from 0, that is computed in full whatever the distance.
        chunk_phase_steps: denoise steps after the warm-up in which a chunk is computed whole or not at all; null stays
            with that to the end, which is FlowCache.
        threshold: a chunk is due when its accumulated distance reaches this.
        token_threshold: the same for a token, after the chunk phase.
        distance: `global`, one distance for the chunk, or `token`.
        floor: lowest motion weight.
        power: exponent of the motion weight before it is raised to the floor.
        weights_once: weigh motion after the first step of a chunk only.
        reuse_ratio: largest share of a chunk that is reused in the token phase, at its beginning and at its end.
        temporal_vote: a position that is due in more than this share of the latent frames is computed in all of them;
            null decides every token by itself.
    """

    warmup: int = 4
    chunk_phase_steps: int | None = 20
    threshold: float = 0.0065
    token_threshold: float = 0.0065
    distance: Distance = Distance.per_chunk
    floor: float = 0.6
    power: float = 1.0
    weights_once: bool = False
    reuse_ratio: tuple[float, ...] = (1.0, 1.0)
    temporal_vote: float | None = None

    measures = True

    def __post_init__(self) -> None:
        MagiReuseConfig.__post_init__(self)
        ratio, vote, chunk_steps = self.reuse_ratio, self.temporal_vote, self.chunk_phase_steps
        for name, value, holds, allowed in (
            ("warmup", self.warmup, self.warmup >= 0, "0 or more"),
            ("chunk_phase_steps", chunk_steps, chunk_steps is None or chunk_steps >= 0, "null, or 0 or more"),
            ("threshold", self.threshold, self.threshold >= 0, "0 or more"),
            ("token_threshold", self.token_threshold, self.token_threshold >= 0, "0 or more"),
            ("floor", self.floor, 0 <= self.floor <= 1, "between 0 and 1"),
            ("power", self.power, self.power > 0, "more than 0"),
            ("reuse_ratio", ratio, len(ratio) == 2 and all(0 <= r <= 1 for r in ratio), "two shares from 0 to 1"),
            ("temporal_vote", vote, vote is None or 0 <= vote < 1, "null, or at least 0 and less than 1"),
        ):
            require_range(name, value, holds, allowed)

    @property
    def token_phase_begin(self) -> int:
        """First denoise step of a chunk that decides token by token."""
        return sys.maxsize if self.chunk_phase_steps is None else self.warmup + 1 + self.chunk_phase_steps

    def measures_tokens(self, step: int) -> bool:
        return self.distance is Distance.per_token and step >= self.token_phase_begin

    def create_policy(self, schedule: WindowSchedule) -> Policy:
        return MagiMotionCache(self, schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiMemory:
    """What is remembered of one chunk.

    Attributes:
        chunk_distance: accumulated since the chunk was last computed, float32 scalar; None during the warm-up.
        token_distance: accumulated since each token was last computed, float32 `[tokens]`; None during the warm-up.
        weight: motion weights, float32 `[tokens]`; None before any are known.
        last_frame: latents of the chunk's last latent frame, as patches `[1, tokens_per_frame, values]`.
    """

    chunk_distance: torch.Tensor | None = None
    token_distance: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    last_frame: torch.Tensor | None = None


class MagiMotionCache(Policy):
    """One decision per chunk, later one per token; the very last step of a video is computed in full."""

    def __init__(self, config: MagiMotionCacheConfig, schedule: WindowSchedule) -> None:
        self.config = config
        self._schedule = schedule

    history = 1

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [self.decide_chunk(call, memory, window) for call, memory in zip(calls, memories, strict=True)]

    def decide_chunk(self, call: Call, memory: Memory, window: WindowShape) -> Decision:
        memory = magi_memory(memory)
        chunk_distance, token_distance = memory.chunk_distance, memory.token_distance
        if call.step <= self.config.warmup or chunk_distance is None or token_distance is None:
            return Decision(call=call, phase=Phase.warmup, due=True, memory=memory)
        if self.ends_video(call):
            return Decision(call=call, phase=Phase.token, due=True, memory=restarted(memory))
        if call.step >= self.config.token_phase_begin:
            return self.decide_tokens(call, memory, window)
        accumulated = chunk_distance + torch.as_tensor(call.distance, device=chunk_distance.device)
        due = accumulated >= self.config.threshold
        memory = replace(restarted(memory), chunk_distance=accumulated.masked_fill(due, 0.0))
        return Decision(call=call, phase=Phase.chunk, due=due.expand(call.tokens), memory=memory)

    def decide_tokens(self, call: Call, memory: MagiMemory, window: WindowShape) -> Decision:
        """The decision of the token phase."""
        accumulated, due = self.accumulate(call, memory)
        due = self.vote(due, window.grid)
        memory = replace(restarted(memory), token_distance=accumulated.masked_fill(due, 0.0))
        return Decision(call=call, phase=Phase.token, due=due, memory=memory)

    def accumulate(self, call: Call, memory: MagiMemory) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances since each token was last computed, and which tokens are due by them, both `[tokens]`."""
        assert memory.token_distance is not None
        distance = torch.as_tensor(call.distance, device=memory.token_distance.device)
        weight = 1.0 if memory.weight is None else memory.weight
        accumulated = memory.token_distance + distance * weight
        ratio = self._reuse_ratio(call.step)
        return accumulated, limit_reuse(accumulated >= self.config.token_threshold, accumulated, ratio)

    def vote(self, due: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
        """Due in all latent frames where due in more than `temporal_vote` of them; it only adds tokens."""
        if self.config.temporal_vote is None:
            return due
        frames = due.view(grid.chunk_frames, -1)
        return (frames | (frames.float().mean(dim=0) > self.config.temporal_vote)).flatten()

    def ends_video(self, call: Call) -> bool:
        """Whether this is the very last denoise step of the video."""
        return (call.chunk, call.step) == (self._schedule.chunks - 1, self._schedule.steps - 1)

    @property
    def last_step(self) -> int:
        """The denoise step at which the largest share of reused tokens is the last of `reuse_ratio`."""
        return self._schedule.steps - 1

    def _reuse_ratio(self, step: int) -> float:
        first, last = self.config.reuse_ratio
        begin = self.config.token_phase_begin
        progress = (step - begin) / max(self.last_step - begin, 1)
        return first + (last - first) * min(max(progress, 0.0), 1.0)

    def remember(self, decision: Decision, hidden: torch.Tensor, window: WindowShape, predecessor: Memory) -> Memory:
        """`hidden` are the latents after the step, as patches."""
        memory, call, grid = magi_memory(decision.memory), decision.call, window.grid
        if decision.phase is Phase.warmup:
            tokens = torch.zeros(call.tokens, device=hidden.device)
            memory = replace(memory, chunk_distance=tokens.new_zeros(()), token_distance=tokens)
        frames = hidden[0].float().view(grid.chunk_frames, grid.tokens_per_frame, -1)
        if not self.config.weights_once or call.step == 0:
            before = magi_memory(predecessor).last_frame
            weight = motion_weight(frames, before, self.config.floor, self.config.power)
            memory = replace(memory, weight=weight.flatten())
        return replace(memory, last_frame=frames[-1:].clone())

    def remember_prefix(self, hidden: torch.Tensor, window: WindowShape) -> Memory:
        return MagiMemory(last_frame=hidden[:, -window.grid.tokens_per_frame :].float().clone())


def restarted(memory: MagiMemory) -> MagiMemory:
    """A memory whose distances are 0."""
    assert memory.chunk_distance is not None
    assert memory.token_distance is not None
    zeros = torch.zeros_like(memory.token_distance)
    return replace(memory, chunk_distance=torch.zeros_like(memory.chunk_distance), token_distance=zeros)


def magi_memory(memory: Memory) -> MagiMemory:
    """A chunk's memory, a fresh one before there is any."""
    return memory if isinstance(memory, MagiMemory) else MagiMemory()


def motion_weight(
    frames: torch.Tensor, previous_frame: torch.Tensor | None, floor: float, power: float
) -> torch.Tensor:
    """Weights of every token from the change of its latents, each latent frame by itself.

    w = floor + (1 - floor) z^power with z = (d - min) / (max - min) and d = mean|x_f - x_(f-1)|; 1 where all of a frame
    changes alike, and in a first frame without a predecessor.

    Args:
        frames: patches `[frames, tokens_per_frame, values]`.
        previous_frame: the latent frame before them, `[1, tokens_per_frame, values]`.

    Returns:
        float32 `[frames, tokens_per_frame]`.
    """
    first = frames[:1] if previous_frame is None else previous_frame
    change = (frames - torch.cat([first, frames[:-1]])).abs().mean(dim=2)
    lowest, highest = change.amin(dim=1, keepdim=True), change.amax(dim=1, keepdim=True)
    z = ((change - lowest) / (highest - lowest)).pow(power)
    return torch.where(highest == lowest, 1.0, floor + (1 - floor) * z)


def limit_reuse(due: torch.Tensor, accumulated: torch.Tensor, ratio: float) -> torch.Tensor:
    """Make tokens due until at most `ratio` of them are reused: those with the largest distances, in stable order."""
    most = int(len(due) * ratio)
    if most >= len(due):
        return due
    order = accumulated.masked_fill(due, torch.inf).argsort(stable=True)
    reused = torch.zeros_like(due)
    reused[order[:most]] = True
    return due | ~reused
