"""Step distance: how far a chunk's driving signal moved since its last denoise step. Pure functions."""

from collections.abc import Sequence

import torch

_EPSILON = 1e-8


def relative_l1(current: torch.Tensor, previous: torch.Tensor, *, keep: tuple[int, ...] = ()) -> torch.Tensor:
    """mean|current - previous| / (mean|previous| + 1e-8), the means over all dimensions but `keep`.

    Returns:
        A float32 scalar, or a float32 tensor of the kept dimensions.
    """
    dims = [d for d in range(current.ndim) if d not in keep]
    change = (current.float() - previous.float()).abs().mean(dim=dims)
    return change / (previous.float().abs().mean(dim=dims) + _EPSILON)


def polynomial(distance: float, coefficients: Sequence[float]) -> float:
    """Rescale a distance by a polynomial, highest power first, in double precision (Horner's rule)."""
    value = 0.0
    for coefficient in coefficients:
        value = value * distance + coefficient
    return value


def polynomial_per_token(distance: torch.Tensor, coefficients: Sequence[float]) -> torch.Tensor:
    """The same polynomial for a tensor of distances, in the tensor's precision."""
    value = torch.zeros_like(distance)
    for coefficient in coefficients:
        value = value * distance + coefficient
    return value
