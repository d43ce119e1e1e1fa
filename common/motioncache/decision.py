"""Policies decide what to compute; they never compute it.

A policy is asked once per model call for all chunks that denoise, in both CFG branches, so one object can decide for a
whole window (TeaCache), per chunk (FlowCache) or per token (MotionCache). All its methods are pure: state comes in with
the request and goes out as a new memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from motioncache.grid import TokenGrid
from motioncache.trace import Phase

Memory = object | None
"""What a policy remembers of one chunk and CFG branch; None before it has seen any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One chunk of one CFG branch that asks what to compute at this denoise step.

    Attributes:
        iteration: of the window, from 0.
        iterations: how many the window has.
        step: the chunk's own denoise step, from 0.
        distance: step distance since the chunk's previous step: one number, or float32 on the device, a scalar or per
            latent frame or token; 0 at step 0.
        memory: what the policy returned for this chunk the last time.
    """

    branch: str
    chunk: int
    iteration: int
    iterations: int
    step: int
    distance: float | torch.Tensor
    grid: TokenGrid
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Which tokens a policy would compute, on the device.

    Attributes:
        due: True for all, False for none, or bool `[tokens_per_chunk]`.
        accumulated: the policy's accumulated distance with this step's added, as the policy keeps it.
        coefficients: what a chunk that is reused takes of each residual that it has kept, the latest first.
    """

    phase: Phase
    due: bool | torch.Tensor
    accumulated: torch.Tensor | None = None
    coefficients: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is computed, known on the host.

    Attributes:
        due: True for all, False for none, or int64 indices `[n]` of the tokens, on the host.
        candidates: tokens that were proposed, whether or not they are computed in the end.
    """

    phase: Phase
    due: bool | torch.Tensor
    candidates: int


class Policy(Protocol):
    """What the engine asks of a policy."""

    @property
    def kept(self) -> int:
        """Residuals of a chunk that are kept for reuse, those of its last computations."""
        ...

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        """One proposal for each request, without waiting for the device."""
        ...

    def settle(
        self, requests: Sequence[Request], proposals: Sequence[Proposal], masks: Sequence[torch.Tensor | None]
    ) -> list[Decision]:
        """One decision for each request; `masks` are the proposed tensors on the host, None where all or none."""
        return [
            all_or_none(proposal, request.grid.tokens_per_chunk) if mask is None else self.settle_mask(proposal, mask)
            for request, proposal, mask in zip(requests, proposals, masks, strict=True)
        ]

    def settle_mask(self, proposal: Proposal, mask: torch.Tensor) -> Decision:
        """The decision for a proposal whose tokens, bool `[tokens_per_chunk]`, are known on the host."""
        indices = mask.nonzero().flatten()
        due: bool | torch.Tensor = indices if 0 < len(indices) < len(mask) else len(indices) > 0
        return Decision(phase=proposal.phase, due=due, candidates=len(indices))

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
        """The chunk's new memory.

        Args:
            hidden: the chunk after the blocks, reused tokens included, `[batch, tokens_per_chunk, channels]`.
            predecessor: memory of the chunk before it in the same CFG branch.
        """
        ...

    def adopt(self, hidden: torch.Tensor, grid: TokenGrid) -> Memory:
        """Memory of a prefix chunk, which is computed once and never denoised."""
        ...

    def carry(self, memory: Memory) -> Memory:
        """What survives of a memory when the next window of the same video begins."""
        ...


def all_or_none(proposal: Proposal, tokens: int) -> Decision:
    """The decision for a proposal that needs no mask."""
    if isinstance(proposal.due, torch.Tensor):
        raise TypeError("a proposal with a mask has to be settled by its policy")
    return Decision(phase=proposal.phase, due=proposal.due, candidates=tokens if proposal.due else 0)


class ChunkPolicy(Policy, Protocol):
    """A policy that decides for every chunk by itself."""

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        return [self.propose_chunk(request) for request in requests]

    def propose_chunk(self, request: Request) -> Proposal:
        """The proposal for one chunk, without waiting for the device."""
        ...
