"""The config that all policies share which accumulate a step distance."""

from dataclasses import dataclass
from enum import Enum

from motioncache.config import PolicyConfig
from motioncache.field_types import require_range


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
        PolicyConfig.__post_init__(self)
        require_range("threshold", self.threshold, self.threshold >= 0, "0 or more")
        require_fit_range(self.fit_range)


def require_fit_range(limits: tuple[float, ...]) -> None:
    """Refuse a range of relative changes that is none."""
    ordered = len(limits) == 2 and 0 <= limits[0] < limits[1]
    require_range("fit_range", list(limits), not limits or ordered, "empty, or two numbers, the lower one first")
