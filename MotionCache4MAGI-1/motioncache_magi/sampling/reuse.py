"""The protocol through which a cache takes part in sampling; the sampling loop works without one."""

from collections.abc import Sequence
from typing import Protocol

import torch

from motioncache.grid import TokenGrid
from motioncache_magi.sampling.guidance import Pass
from motioncache_magi.sampling.step import Step

Due = bool | torch.Tensor
"""The tokens of a chunk that are computed: True for all, False for none, or int64 indices `[n]` on the device."""


class Reuse(Protocol):
    """Decides which tokens of a step are computed, and moves the latents of every chunk.

    Branches of guidance share the decision, and what is reused is their guided result. Latents are patches
    `[1, tokens, values]`, velocities those of the due tokens, `[1, due, values]`.
    """

    @property
    def keeps_active(self) -> bool:
        """Whether a chunk may see keys and values that another one left at an earlier step before it was clean."""
        ...

    def start(self, grid: TokenGrid, iterations: int, branches: tuple[str, ...]) -> None:
        """Begin a video of so many denoise steps."""
        ...

    def select(self, step: Step, passes: list[Pass]) -> list[Pass]:
        """The passes that are made, of those that a step has without a cache."""
        ...

    def decide(self, step: Step, passes: Sequence[Pass], embedded: dict[int, torch.Tensor]) -> dict[int, Due]:
        """What is computed of each chunk, in the order of the chunks.

        Args:
            embedded: tokens of each chunk after the embedding, `[tokens, channels]`.
        """
        ...

    def advance(self, chunk: int, latents: torch.Tensor, velocity: torch.Tensor, length: float) -> torch.Tensor:
        """The latents of a chunk after a denoise step of this length."""
        ...

    def refreshed(self, chunk: int, latents: torch.Tensor) -> None:
        """The keys and values of a clean chunk have been computed."""
        ...

    def end_step(self, passes: Sequence[Pass]) -> None:
        """All chunks of a step have moved."""
        ...

    def end(self) -> None:
        """Free all that belongs to the video."""
        ...


class ComputeAll(Reuse):
    """Computes everything: sampling without a cache."""

    @property
    def keeps_active(self) -> bool:
        return False

    def start(self, grid: TokenGrid, iterations: int, branches: tuple[str, ...]) -> None:
        pass

    def select(self, step: Step, passes: list[Pass]) -> list[Pass]:
        return passes

    def decide(self, step: Step, passes: Sequence[Pass], embedded: dict[int, torch.Tensor]) -> dict[int, Due]:
        return dict.fromkeys(step.chunks, True)

    def advance(self, chunk: int, latents: torch.Tensor, velocity: torch.Tensor, length: float) -> torch.Tensor:
        return latents + velocity * length

    def refreshed(self, chunk: int, latents: torch.Tensor) -> None:
        pass

    def end_step(self, passes: Sequence[Pass]) -> None:
        pass

    def end(self) -> None:
        pass
