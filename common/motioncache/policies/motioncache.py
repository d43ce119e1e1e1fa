"""MotionCache: warm-up, chunk phase, token phase (arXiv 2605.01725)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from motioncache.decision import ChunkPolicy, Decision, Memory, Proposal, Request
from motioncache.grid import TokenGrid
from motioncache.motion import motion_score, motion_weight, temporal_vote
from motioncache.presets import MotionCacheConfig
from motioncache.trace import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionMemory:
    """What MotionCache remembers of one chunk and CFG branch.

    Attributes:
        accumulated: distance of each token since it was last computed, float32 `[tokens]`.
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


class MotionCache(ChunkPolicy):
    """One decision per token: a token is due when its accumulated distance reaches the threshold.

    Differences from the published code, all on unless `reference_quirks` is set: a frame without a predecessor gets the
    neutral weight 1 (published: the floor, which makes it the *least* likely to be computed), and nothing survives
    from one window to the next (published: the last frames do, so that a chunk is compared with another window's).
    """

    def __init__(self, config: MotionCacheConfig) -> None:
        self.config = config

    @property
    def kept(self) -> int:
        return 1

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        proposals = super().propose(requests)
        if not self.config.shared_mask:
            return proposals
        first = dict(reversed([(request.chunk, own) for request, own in zip(requests, proposals, strict=True)]))
        return [first[request.chunk] for request in requests]

    def propose_chunk(self, request: Request) -> Proposal:
        memory = _motion_memory(request.memory)
        if request.step <= self.config.warmup or memory.accumulated is None:
            return Proposal(phase=Phase.warmup, due=True)
        distance = request.distance
        if isinstance(distance, torch.Tensor):  # [chunk_frames] -> [tokens]
            distance = distance.to(memory.accumulated.device).repeat_interleave(request.grid.tokens_per_frame)
        # The token phase of the paper: the same distance, multiplied per token by its motion weight.
        step = distance if memory.weight is None else distance * memory.weight
        accumulated = memory.accumulated + step
        due = accumulated >= self.config.threshold
        if self.config.temporal_vote is not None:
            due = temporal_vote(due, request.grid.chunk_frames, self.config.temporal_vote)
        return Proposal(phase=Phase.token if memory.token_phase else Phase.chunk, due=due, accumulated=accumulated)

    def settle_mask(self, proposal: Proposal, mask: torch.Tensor) -> Decision:
        """Too few due tokens do not pay for a pass: the chunk is reused whole."""
        decision = super().settle_mask(proposal, mask)
        too_few = decision.candidates / len(mask) < self.config.minimum_update_ratio
        return replace(decision, due=False) if too_few else decision

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
        memory = _motion_memory(request.memory)
        if decision.phase is Phase.warmup:
            memory = replace(memory, accumulated=None)
            if request.step == self.config.warmup:  # the last warm-up step opens the chunk phase
                zeros = torch.zeros(request.grid.tokens_per_chunk, dtype=torch.float32, device=hidden.device)
                memory = replace(memory, accumulated=zeros, updates=0, token_phase=False, weight=None)
        else:
            memory = replace(memory, accumulated=_reset(proposal, decision))
            if decision.due is not False and not memory.token_phase:
                memory = replace(memory, updates=memory.updates + 1)
        last = self.config.chunk_phase_updates
        opened = memory.accumulated is not None and last is not None and memory.updates >= last
        if not opened:
            return memory
        return self._weigh(replace(memory, token_phase=True), request, hidden, predecessor)

    def _weigh(self, memory: MotionMemory, request: Request, hidden: torch.Tensor, predecessor: Memory) -> MotionMemory:
        grid = request.grid
        frames = hidden.view(len(hidden), grid.chunk_frames, grid.tokens_per_frame, -1)
        before = _motion_memory(predecessor).last_frame if request.chunk > 0 else None
        # The first chunk of a video copies its second frame's score; any other chunk should have a predecessor.
        missing = 1.0 if request.chunk > 0 else torch.nan
        score = motion_score(frames, before, missing=missing)
        weight = motion_weight(score, self.config.normalisation, self.config.floor)
        if request.chunk > 0 and before is None and not self.config.reference_quirks:
            weight = torch.cat([torch.ones_like(weight[:1]), weight[1:]])
        return replace(memory, weight=weight.flatten(), last_frame=frames[:, -1].clone())

    def adopt(self, hidden: torch.Tensor, grid: TokenGrid) -> Memory:
        if self.config.reference_quirks:
            return None
        return MotionMemory(last_frame=hidden[:, -grid.tokens_per_frame :].clone())

    def carry(self, memory: Memory) -> Memory:
        if self.config.reference_quirks and isinstance(memory, MotionMemory):
            return MotionMemory(last_frame=memory.last_frame)
        return None


def _reset(proposal: Proposal, decision: Decision) -> torch.Tensor | None:
    """Computed tokens start again from 0; if too few were due, nothing was computed and nothing is reset."""
    if decision.due is False or proposal.accumulated is None or isinstance(proposal.due, bool):
        return proposal.accumulated
    return proposal.accumulated.masked_fill(proposal.due, 0.0)


def _motion_memory(memory: Memory) -> MotionMemory:
    return memory if isinstance(memory, MotionMemory) else MotionMemory()
