"""Searches for the values of a knob that cost what budgets allow; a cost is that of a whole video."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from motioncache_eval.bench.config import TuneConfig

TOLERANCE = 0.02
"""A budget that is met to this relative distance is met."""

FINE = 1.03
"""Two values of the knob with a smaller ratio are not searched between: costs have steps."""

TRIES = 6
"""Values that are tried for each budget, besides both ends."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value of the knob and the FLOPs of a video with it."""

    value: float
    flops: float


def search(cost: Callable[[float], float], targets: Sequence[float], tuning: TuneConfig) -> list[Point]:
    """Points around the targets, by value; the cost rises or falls with the value."""
    points = [Point(value, cost(value)) for value in (tuning.low, tuning.high)]
    for target in targets:
        for _ in range(TRIES):
            value = _next_value(sorted(points, key=lambda point: point.value), target, tuning.multiple)
            if value is None:
                break
            points.append(Point(value, cost(value)))
    return sorted(points, key=lambda point: point.value)


def nearest(points: Sequence[Point], target: float) -> Point:
    """The point whose cost is nearest to the target, as a ratio."""
    return min(points, key=lambda point: abs(math.log(point.flops / target)))


def _next_value(points: Sequence[Point], target: float, multiple: int | None) -> float | None:
    """The value to try next, between the two points that enclose the target.

    None where the target is met, out of reach, or cannot be met better.
    """
    if abs(nearest(points, target).flops / target - 1) < TOLERANCE:
        return None
    around = next(((a, b) for a, b in pairwise(points) if (a.flops - target) * (b.flops - target) < 0), None)
    if around is None:
        return None
    a, b = around
    share = (math.log(target) - math.log(a.flops)) / (math.log(b.flops) - math.log(a.flops))
    share = min(max(share, 0.2), 0.8)  # a straight line through a cost with steps would stay at one end
    value = math.exp(math.log(a.value) + share * (math.log(b.value) - math.log(a.value)))
    if multiple is None:
        return value if b.value / a.value > FINE else None
    value = min(max(round(value / multiple) * multiple, a.value + multiple), b.value - multiple)
    return int(value) if a.value < value < b.value else None
