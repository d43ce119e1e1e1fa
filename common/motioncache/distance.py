"""Step distance: how far a chunk's driving signal moved since its last denoise step."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import torch

from motioncache.config import PolicyConfig, require_range

Value = TypeVar("Value", float, torch.Tensor)

_EPSILON = 1e-8


class Distance(Enum):
    """What the step distance is averaged over."""

    per_chunk = "global"
    """One number for the chunk."""
    per_token = "token"
    """One number for each token; tokens of one latent frame share theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceConfig(PolicyConfig):
    """What all policies share that accumulate a step distance.

    Args:
        threshold: something is due when its accumulated distance reaches this.
        distance: `global`, one step distance for the chunk, or `token`.
        coefficients: polynomial from relative change of the driving signal to distance, highest power first; empty
            takes the model's own from its table.
        fit_range: relative changes over which the polynomial was fitted, lowest and highest; empty means all.
        clamp_distance: keep the relative change inside the fit range and the distance at 0 or more. The published code
            adds whatever the polynomial gives, which far from its fit is a large negative number.
    """

    threshold: float = 0.1
    distance: Distance = Distance.per_chunk
    coefficients: tuple[float, ...] = ()
    fit_range: tuple[float, ...] = ()
    clamp_distance: bool = True

    def __post_init__(self) -> None:
        require_range("threshold", self.threshold, self.threshold >= 0, "0 or more")
        limits = self.fit_range
        ordered = len(limits) == 2 and 0 <= limits[0] < limits[1]
        require_range("fit_range", list(limits), not limits or ordered, "empty, or two numbers, the lower one first")


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
