"""The policy of the `exact` tier: every denoise step is computed, only chunk KV reuse saves work."""

from collections.abc import Sequence

import torch

from motioncache.decision import Decision, Memory, Policy, Proposal, Request
from motioncache.grid import TokenGrid
from motioncache.trace import Phase


class NoCache(Policy):
    """Computes all tokens at all steps."""

    @property
    def kept(self) -> int:
        return 0

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        return [Proposal(phase=Phase.uncached, due=True) for _ in requests]

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
        return None

    def adopt(self, hidden: torch.Tensor, grid: TokenGrid) -> Memory:
        return None

    def carry(self, memory: Memory) -> Memory:
        return None
