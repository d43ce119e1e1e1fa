"""MotionCache and TeaCache on MAGI-1: distances between embedded latents, motion weights in latent space."""

import sys
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

import torch

from motioncache.decision import ChunkPolicy, Decision, Memory, Policy, Proposal, Request
from motioncache.grid import TokenGrid
from motioncache.policies.teacache import TeaCache
from motioncache.presets import Distance, PolicyConfig, require_range
from motioncache.trace import Phase
from motioncache_magi.sampling.schedule import WindowSchedule


class Residual(Enum):
    """What a token keeps from its last computation."""

    displacement = "displacement"
    """How far its latents moved; published. It does not know that steps grow longer."""
    velocity = "velocity"
    """Its velocity, which is multiplied by the length of the step that reuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiReuseConfig(PolicyConfig):
    """What all policies share that reuse anything.

    Args:
        residual: see `Residual`.
        refresh_clean: compute keys and values of a chunk once more when it has become clean, as without a cache; the
            published code does not.
        nearly_clean: keep the guidance of the nearly clean chunk, as without a cache; published for TeaCache alone.
        reference_quirks: behave as the published code does where that is known to be wrong (see the README).
    """

    residual: Residual = Residual.displacement
    refresh_clean: bool = True
    nearly_clean: bool = True
    reference_quirks: bool = False

    measures: ClassVar[bool] = False
    """Whether it decides by step distances."""

    def measures_tokens(self, step: int) -> bool:
        """Whether the distance of a chunk's step is wanted for each token, and not for the chunk."""
        return False

    def policy(self, schedule: WindowSchedule) -> Policy:
        """What decides for a video."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiTeaCacheConfig(MagiReuseConfig):
    """TeaCache: all chunks of the window are computed or reused together; see `MagiReuseConfig` for the rest.

    Args:
        warmup: last denoise step of the video, counted from 0, that is computed in full whatever the distance.
        threshold: the window is due when its accumulated distance reaches this.
    """

    warmup: int = 4
    threshold: float = 0.01

    measures = True

    def __post_init__(self) -> None:
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")
        require_range("threshold", self.threshold, self.threshold >= 0, "0 or more")

    def policy(self, schedule: WindowSchedule) -> Policy:
        return TeaCache(threshold=self.threshold, warmup=self.warmup)


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

    def policy(self, schedule: WindowSchedule) -> Policy:
        return MagiMotionCache(self, schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiFlowCacheConfig(MagiMotionCacheConfig):
    """FlowCache: whole chunks to the end, and keys and values of clean chunks compressed if that is asked for.

    Args:
        past_chunks: room for the keys and values of clean chunks, in chunks; every chunk sees all that is kept,
            whatever `noise2clean_kvrange` says. null keeps what is seen, uncompressed.
        importance: weight of how much a key is attended to; the rest is that of how unlike the others it is.
    """

    chunk_phase_steps: int | None = None
    past_chunks: int | None = None
    importance: float = 0.07

    def __post_init__(self) -> None:
        MagiMotionCacheConfig.__post_init__(self)
        past = self.past_chunks
        require_range("past_chunks", past, past is None or past >= 1, "null, or 1 or more")
        require_range("importance", self.importance, 0 <= self.importance <= 1, "between 0 and 1")
        plain = self.refresh_clean and not self.reference_quirks
        require_range(
            "past_chunks", past, past is None or plain, "null without refresh_clean, or with reference_quirks"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiMemory:
    """What is remembered of one chunk.

    Attributes:
        chunk_distance: accumulated since the chunk was last computed, float32 scalar.
        token_distance: accumulated since each token was last computed, float32 `[tokens]`.
        weight: motion weights, float32 `[tokens]`; None before any are known.
        due: the last mask of the token phase, for the published behaviour at the end of a video.
        last_frame: latents of the chunk's last latent frame, as patches `[1, tokens_per_frame, values]`.
    """

    chunk_distance: torch.Tensor | None = None
    token_distance: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    due: torch.Tensor | None = None
    last_frame: torch.Tensor | None = None


class MagiMotionCache(ChunkPolicy):
    """One decision per chunk, later one per token; the very last step of a video is computed in full."""

    def __init__(self, config: MagiMotionCacheConfig, schedule: WindowSchedule) -> None:
        self.config = config
        self._schedule = schedule

    @property
    def kept(self) -> int:
        return 1

    def propose_chunk(self, request: Request) -> Proposal:
        memory, config = _memory(request.memory), self.config
        if request.step <= config.warmup or memory.chunk_distance is None or memory.token_distance is None:
            return Proposal(phase=Phase.warmup, due=True)
        if self._ends_video(request):
            if config.reference_quirks and memory.due is not None:  # published: by the mask of the step before
                return Proposal(phase=Phase.token, due=memory.due, accumulated=memory.token_distance)
            return Proposal(phase=Phase.token, due=True, accumulated=torch.zeros_like(memory.token_distance))
        distance = torch.as_tensor(request.distance, device=memory.token_distance.device)
        if request.step < config.token_phase_begin:
            accumulated = memory.chunk_distance + distance
            due = (accumulated >= config.threshold).expand(request.grid.tokens_per_chunk)
            return Proposal(phase=Phase.chunk, due=due, accumulated=accumulated.masked_fill(due[0], 0.0))
        weight = 1.0 if memory.weight is None else memory.weight
        accumulated = memory.token_distance + distance * weight
        due = limit_reuse(accumulated >= config.token_threshold, accumulated, self._reuse_ratio(request.step))
        voted = due if config.temporal_vote is None else _vote(due, request.grid, config.temporal_vote)
        # Published: the vote comes after the reset, so that tokens computed by it keep what they have accumulated.
        reset = due if config.reference_quirks else voted
        return Proposal(phase=Phase.token, due=voted, accumulated=accumulated.masked_fill(reset, 0.0))

    def _ends_video(self, request: Request) -> bool:
        return (request.chunk, request.step) == (self._schedule.chunks - 1, self._schedule.steps - 1)

    def _reuse_ratio(self, step: int) -> float:
        first, last = self.config.reuse_ratio
        begin = self.config.token_phase_begin
        # Published: progress to the last step of the whole video, which a chunk never comes near.
        end = self._schedule.total if self.config.reference_quirks else self._schedule.steps - 1
        progress = (step - begin) / max(end - begin, 1)
        return first + (last - first) * min(max(progress, 0.0), 1.0)

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
        """`hidden` are the latents after the step, as patches."""
        memory, grid = _memory(request.memory), request.grid
        zero = torch.zeros((), device=hidden.device)
        tokens = torch.zeros(grid.tokens_per_chunk, device=hidden.device)
        if decision.phase is Phase.warmup:
            memory = replace(memory, chunk_distance=zero, token_distance=tokens)
        elif decision.phase is Phase.chunk:
            memory = replace(memory, chunk_distance=proposal.accumulated, token_distance=tokens)
        else:
            due = proposal.due if isinstance(proposal.due, torch.Tensor) else None
            memory = replace(memory, chunk_distance=zero, token_distance=proposal.accumulated, due=due)
        frames = hidden[0].float().view(grid.chunk_frames, grid.tokens_per_frame, -1)
        if not self.config.weights_once or request.step == 0:
            before = _memory(predecessor).last_frame if request.chunk > 0 else None
            weight = motion_weight(frames, before, self.config.floor, self.config.power)
            memory = replace(memory, weight=weight.flatten())
        return replace(memory, last_frame=frames[-1:].clone())

    def adopt(self, hidden: torch.Tensor, grid: TokenGrid) -> Memory:
        return MagiMemory(last_frame=hidden[:, -grid.tokens_per_frame :].float().clone())

    def carry(self, memory: Memory) -> Memory:
        return None


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
    kept = torch.zeros_like(due)
    kept[order[:most]] = True
    return due | ~kept


def _vote(due: torch.Tensor, grid: TokenGrid, share: float) -> torch.Tensor:
    """Compute a position in all latent frames where it is due in more than `share` of them; it only adds tokens."""
    frames = due.view(grid.chunk_frames, -1)
    return (frames | (frames.float().mean(dim=0) > share)).flatten()


def _memory(memory: Memory) -> MagiMemory:
    return memory if isinstance(memory, MagiMemory) else MagiMemory()
