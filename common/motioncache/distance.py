"""Step distance: how far a chunk's driving signal moved since its last denoise step."""

from collections.abc import Sequence
from typing import TypeVar

import torch

Value = TypeVar("Value", float, torch.Tensor)

_EPSILON = 1e-8


def relative_l1(current: torch.Tensor, previous: torch.Tensor, *, keep: tuple[int, ...] = ()) -> torch.Tensor:
    """mean|current - previous| / (mean|previous| + 1e-8), the means over all dimensions but `keep`.

    Returns:
        A float32 scalar, or a float32 tensor of the kept dimensions.
    """
    dims = [d for d in range(current.ndim) if d not in keep]
    change = (current.float() - previous.float()).abs().mean(dim=dims)
    return change / (previous.float().abs().mean(dim=dims) + _EPSILON)


def polynomial(distance: Value, coefficients: Sequence[float]) -> Value:
    """A polynomial, highest power first (Horner's rule); a number in double precision, a tensor in its own."""
    value = 0.0 * distance
    for coefficient in coefficients:
        value = value * distance + coefficient
    return value
