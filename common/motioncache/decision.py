"""A call comes in from an adapter, a decision goes back to it, and a state holds what is remembered of a chunk."""

from dataclasses import dataclass

import torch

from motioncache.record import Phase

Memory = object | None
"""What a policy remembers of one chunk in one CFG branch; None before it has seen any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One chunk of one CFG branch in one model call, as an adapter brings it.

    Attributes:
        step: the chunk's own denoise step, from 0; -1 for a pass that only writes keys and values.
        iteration: model call of the window, from 0.
        tokens: tokens of the chunk.
        attended: tokens in the range that the chunk attends to.
        distance: step distance since the chunk's previous step: one number, or float32 on the device, a scalar or per
            latent frame or token; 0 at step 0.
        kv_only: `Phase.prefix`, `Phase.finished` or `Phase.idle` for a pass that only writes keys and values; None to
            denoise.
    """

    branch: str
    chunk: int
    step: int
    iteration: int
    tokens: int
    attended: int
    distance: float | torch.Tensor = 0.0
    kv_only: Phase | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is computed of a call.

    Attributes:
        due: True for all tokens, False for none, else int64 indices `[n]` on the host. A policy answers with a bool
            mask `[tokens]` on the device instead; the engine brings all masks of a model call over at once.
        rows: the same indices on the policy's device, where the engine has them.
        candidates: number of tokens that were over the threshold, whether or not they are computed in the end. A
            policy answers with a bool mask, or with None for the tokens that are due.
        coefficients: what a chunk that is reused takes of each of its last outputs, the latest first.
        memory: what the policy remembers of the chunk from here on; see also `Policy.remember`.
    """

    call: Call
    phase: Phase
    due: bool | torch.Tensor
    rows: torch.Tensor | None = None
    candidates: int | torch.Tensor | None = None
    coefficients: tuple[float, ...] = (1.0,)
    memory: Memory = None

    @property
    def computed(self) -> int:
        """Number of tokens that run through the blocks."""
        if isinstance(self.due, torch.Tensor):
            return len(self.due)
        return self.call.tokens if self.due else 0

    def indices(self) -> torch.Tensor:
        """Indices of the due tokens within the chunk, int64 `[computed]`, on the host."""
        return self.due if isinstance(self.due, torch.Tensor) else torch.arange(self.computed)

    def indices_on(self, device: torch.device) -> torch.Tensor:
        """The same on a device."""
        if self.rows is not None and self.rows.device == device:
            return self.rows
        return self.indices().to(device)


@dataclass(slots=True)
class ChunkState:
    """What is remembered of one chunk in one CFG branch; a window's states are dropped with it.

    Attributes:
        outputs: the chunk's last outputs, the latest first: residuals (after minus before the blocks, each token's
            from its last computation) or, where the adapter says so, velocities. `[batch, tokens, channels]`.
        memory: what the policy remembers.
    """

    outputs: tuple[torch.Tensor, ...] = ()
    memory: Memory = None
