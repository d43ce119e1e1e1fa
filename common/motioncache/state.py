"""What is remembered between denoise steps: one `ChunkState` per chunk and CFG branch, in one store per window."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from motioncache.decision import Memory


@dataclass(slots=True)
class ChunkState:
    """State of one chunk in one CFG branch.

    Attributes:
        step: denoise steps this chunk has had in this window.
        residuals: from the last computations, the latest first. A residual is what the adapter says: the hidden state
            after minus before the blocks, `[batch, tokens, channels]`, of each token's last computation; or a velocity.
        memory: what the policy remembers.
    """

    step: int = 0
    residuals: tuple[torch.Tensor, ...] = ()
    memory: Memory = None

    @property
    def residual(self) -> torch.Tensor | None:
        """The latest residual."""
        return self.residuals[0] if self.residuals else None


class StateStore:
    """The states of one window. A new window gets a new store: reset means that the old one is dropped."""

    def __init__(self) -> None:
        self._states: dict[tuple[str, int], ChunkState] = {}

    def get(self, branch: str, chunk: int) -> ChunkState:
        """The state of a chunk in a CFG branch, a fresh one if it has not been seen."""
        return self._states.setdefault((branch, chunk), ChunkState())

    def items(self) -> Iterator[tuple[tuple[str, int], ChunkState]]:
        yield from self._states.items()
