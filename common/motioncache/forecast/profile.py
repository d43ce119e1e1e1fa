"""What the planner has to know of a window before it is sampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowProfile:
    """When each chunk starts, the sigma of every denoise step, and the FLOPs of every iteration.

    A chunk that starts at iteration i takes its denoise step s at iteration i + s.

    Attributes:
        iterations: number of iterations of the window.
        starts: the iteration of each chunk's first denoise step.
        iteration_flops: FLOPs that each iteration takes more if it is computed than if it is forecast, `[iterations]`.
        fixed_flops: FLOPs of the window if no iteration is computed.
        sigmas: noise level of each denoise step of a chunk, `[steps]`.
        uncached_flops: FLOPs of the window without a cache.
    """

    iterations: int
    starts: tuple[int, ...]
    iteration_flops: tuple[int, ...]
    fixed_flops: int
    sigmas: tuple[float, ...]
    uncached_flops: int

    @property
    def full_flops(self) -> int:
        """FLOPs of the window if every iteration is computed."""
        return self.fixed_flops + sum(self.iteration_flops)

    def flops(self, planned: Sequence[bool]) -> int:
        """FLOPs of the window if the `planned` iterations are computed."""
        computed = (flops for flops, due in zip(self.iteration_flops, planned, strict=True) if due)
        return self.fixed_flops + sum(computed)

    def of_one_chunk(self) -> "WindowProfile":
        """The profile of a single chunk whose steps cost the same and together as much as the window."""
        steps = len(self.sigmas)
        return replace(
            self, iterations=steps, starts=(0,), iteration_flops=(sum(self.iteration_flops) // steps,) * steps
        )
