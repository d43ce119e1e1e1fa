"""TeaCache: one decision for all chunks of a model call (arXiv 2411.19108), on chunks that come and go."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from motioncache.decision import Decision, Memory, Policy, Proposal, Request
from motioncache.grid import TokenGrid
from motioncache.trace import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class TeaMemory:
    """What TeaCache remembers, the same for all chunks of a window.

    Attributes:
        accumulated: distance since the window was last computed, float32 scalar.
    """

    accumulated: torch.Tensor


class TeaCache(Policy):
    """The window is due when the accumulated mean distance of its chunks reaches the threshold.

    The first iterations and the last one of a window are computed in full. A chunk at its first step has nothing to
    reuse: it is computed whatever the others do.

    Args:
        warmup: last iteration of a window, counted from 0, that is computed in full.
    """

    def __init__(self, *, threshold: float, warmup: int) -> None:
        self._threshold = threshold
        self._warmup = warmup

    @property
    def kept(self) -> int:
        return 1

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        known = [request for request in requests if isinstance(request.memory, TeaMemory)]
        if not known or _forced(known[0], self._warmup):
            return [Proposal(phase=Phase.warmup, due=True) for _ in requests]
        accumulated = _accumulated(known)
        due = accumulated >= self._threshold
        kept = accumulated.masked_fill(due, 0.0)
        return [
            Proposal(
                phase=Phase.chunk,
                due=due.expand(request.grid.tokens_per_chunk) if isinstance(request.memory, TeaMemory) else True,
                accumulated=kept,
            )
            for request in requests
        ]

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
        return TeaMemory(accumulated=torch.zeros(()) if proposal.accumulated is None else proposal.accumulated)

    def adopt(self, hidden: torch.Tensor, grid: TokenGrid) -> Memory:
        return None

    def carry(self, memory: Memory) -> Memory:
        return None


def _forced(request: Request, warmup: int) -> bool:
    return request.iteration <= warmup or request.iteration == request.iterations - 1


def _accumulated(known: Sequence[Request]) -> torch.Tensor:
    """What the window has accumulated, with the mean distance of its chunks added; float32 scalar."""
    memory = known[0].memory
    assert isinstance(memory, TeaMemory)
    distances = torch.stack([torch.as_tensor(request.distance, dtype=torch.float32).mean() for request in known])
    return memory.accumulated.to(distances.device) + distances.mean()
