"""MotionCache: warm-up, chunk phase, token phase (arXiv 2605.01725)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.field_types import require_range
from motioncache.motion import Normalisation, motion_score, motion_weight, temporal_vote
from motioncache.policies.distance import DistanceConfig
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionCacheConfig(DistanceConfig):
    """MotionCache: decides token by token. The defaults are the published configuration; see `DistanceConfig` too.

    Args:
        warmup: last denoise step of a chunk, counted from 0, that is computed in full whatever the distance.
        chunk_phase_updates: updates of a chunk after the warm-up before motion weights set in; null stays with whole
            chunks to the end, which is FlowCache.
        normalisation: `max_rescale`, `mean` or `max`, see `motioncache.motion.motion_weight`.
        floor: lowest motion weight under `max_rescale`.
        temporal_vote: a position is computed in all latent frames of a chunk when it is due in more than this share of
            them; null decides every token by itself.
        minimum_update_ratio: a chunk of which fewer tokens are due is reused whole, its accumulated distance is kept.
        shared_mask: compute the tokens that are due in the first CFG branch in the others too; as published, every
            branch decides by itself.
    """

    warmup: int = 4
    chunk_phase_updates: int | None = 6
    normalisation: Normalisation = Normalisation.max_rescale
    floor: float = 0.6
    temporal_vote: float | None = 0.5
    minimum_update_ratio: float = 0.4
    shared_mask: bool = False

    def __post_init__(self) -> None:
        DistanceConfig.__post_init__(self)
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")
        updates = self.chunk_phase_updates
        require_range("chunk_phase_updates", updates, updates is None or updates >= 0, "null, or 0 or more")
        require_range("floor", self.floor, 0 <= self.floor <= 1, "between 0 and 1")
        vote = self.temporal_vote
        require_range("temporal_vote", vote, vote is None or 0 <= vote < 1, "null, or at least 0 and less than 1")
        ratio = self.minimum_update_ratio
        require_range("minimum_update_ratio", ratio, 0 <= ratio <= 1, "between 0 and 1")

    @property
    def mixes_videos(self) -> bool:
        """Motion scores are means over the batch; without a token phase there are none."""
        return self.chunk_phase_updates is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionMemory:
    """What MotionCache remembers of one chunk and CFG branch.

    Attributes:
        accumulated: distance of each token since it was last computed, float32 `[tokens]`; None before the chunk phase,
            on the host during it, when all of a latent frame have the same one, and on the device in the token phase.
        weight: motion weights, float32 `[tokens]`; None outside the token phase.
        updates: updates made in the chunk phase so far.
        token_phase: whether the token phase has begun.
        last_frame: hidden state of the chunk's last latent frame, `[batch, tokens_per_frame, channels]`.
    """

    accumulated: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    updates: int = 0
    token_phase: bool = False
    last_frame: torch.Tensor | None = None


class MotionCache(Policy):
    """One decision per token: a token is due when its accumulated distance reaches the threshold.

    A latent frame without a predecessor gets the neutral weight 1, and nothing survives from one window to the next.
    The published code differs in both (`motioncache_skyreels.compat`).
    """

    def __init__(self, config: MotionCacheConfig) -> None:
        self.config = config

    history = 1

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        decisions = [self.decide_chunk(call, memory, window) for call, memory in zip(calls, memories, strict=True)]
        return _share_masks(decisions) if self.config.shared_mask else decisions

    def decide_chunk(self, call: Call, memory: Memory, window: WindowShape) -> Decision:
        memory = _motion_memory(memory)
        if call.step <= self.config.warmup or memory.accumulated is None:
            return Decision(call=call, phase=Phase.warmup, due=True, memory=memory)
        distance = call.distance
        if isinstance(distance, torch.Tensor):  # [chunk_frames] -> [tokens]
            distance = _moved(
                distance.repeat_interleave(window.grid.tokens_per_frame), memory.accumulated.device, window
            )
        # The token phase of the paper: the same distance, multiplied per token by its motion weight.
        accumulated = memory.accumulated + (distance if memory.weight is None else distance * memory.weight)
        candidates = accumulated >= self.config.threshold
        if self.config.temporal_vote is not None:
            candidates = temporal_vote(candidates, window.grid.chunk_frames, self.config.temporal_vote)
        # Too few due tokens do not pay for a pass: the chunk is reused whole, and its distances go on adding up.
        due = candidates & (candidates.sum() >= fewest_due(call.tokens, self.config.minimum_update_ratio))
        return Decision(
            call=call,
            phase=Phase.token if memory.token_phase else Phase.chunk,
            due=due,
            candidates=candidates,
            memory=replace(memory, accumulated=accumulated.masked_fill(due, 0.0)),
        )

    def remember(self, decision: Decision, hidden: torch.Tensor, window: WindowShape, predecessor: Memory) -> Memory:
        memory, call = _motion_memory(decision.memory), decision.call
        if decision.phase is Phase.warmup:
            memory = MotionMemory(last_frame=memory.last_frame)
            if call.step == self.config.warmup:  # the last warm-up step opens the chunk phase
                memory = replace(memory, accumulated=torch.zeros(call.tokens))
        elif decision.due is not False and not memory.token_phase:
            memory = replace(memory, updates=memory.updates + 1)
        last = self.config.chunk_phase_updates
        if memory.accumulated is None or last is None or memory.updates < last:
            return memory
        grid = window.grid
        frames = hidden.view(len(hidden), grid.chunk_frames, grid.tokens_per_frame, -1)
        before = _motion_memory(predecessor).last_frame
        weight = self._weigh(frames, before, first_chunk=call.chunk == 0).flatten()
        accumulated = _moved(memory.accumulated, hidden.device, window)
        last_frame = frames[:, -1].clone()
        return replace(memory, accumulated=accumulated, token_phase=True, weight=weight, last_frame=last_frame)

    def _weigh(self, frames: torch.Tensor, before: torch.Tensor | None, *, first_chunk: bool) -> torch.Tensor:
        """Motion weights `[frames, tokens_per_frame]` of a chunk `[batch, frames, tokens_per_frame, channels]`.

        The first frame of a video copies the weights of the second. Any other chunk whose predecessor is not known
        gets the neutral weight in its first frame.
        """
        score = motion_score(frames, before, missing=torch.nan if first_chunk else 1.0)
        weight = motion_weight(score, self.config.normalisation, self.config.floor)
        if before is None and not first_chunk:
            weight = torch.cat([torch.ones_like(weight[:1]), weight[1:]])
        return weight

    def remember_prefix(self, hidden: torch.Tensor, window: WindowShape) -> Memory:
        return MotionMemory(last_frame=hidden[:, -window.grid.tokens_per_frame :].clone())


def _moved(distance: torch.Tensor, device: torch.device, window: WindowShape) -> torch.Tensor:
    """Distances `[tokens]` on a device; all of a latent frame have the same one, with which kernels fill the frame."""
    if distance.device == device:
        return distance
    tokens = window.grid.tokens_per_frame
    values = [float(value) for value in distance[::tokens]]  # a latent frame each
    return torch.cat([torch.full((tokens,), value, dtype=torch.float32, device=device) for value in values])


def fewest_due(tokens: int, ratio: float) -> int:
    """The smallest number of tokens whose share reaches `ratio`."""
    fewest = math.ceil(tokens * ratio)
    return fewest - 1 if fewest > 0 and (fewest - 1) / tokens >= ratio else fewest  # the product may round up


def _share_masks(decisions: Sequence[Decision]) -> list[Decision]:
    """Let every CFG branch compute what the first one decided for the same chunk."""
    first: dict[int, Decision] = {}
    for decision in decisions:
        first.setdefault(decision.call.chunk, decision)
    return [_decide_like(first[decision.call.chunk], decision) for decision in decisions]


def _decide_like(first: Decision, own: Decision) -> Decision:
    accumulated = _motion_memory(first.memory).accumulated
    memory = replace(_motion_memory(own.memory), accumulated=accumulated)
    return replace(first, call=own.call, memory=memory)


def _motion_memory(memory: Memory) -> MotionMemory:
    return memory if isinstance(memory, MotionMemory) else MotionMemory()
