"""Which iterations of a window to compute within a budget, so that forecasts do the least harm. Pure functions."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from motioncache.errors import ConfigError
from motioncache.forecast.calibration import Forecast

LONGEST = 16
"""One iteration in so many is computed at least."""

CLOSE = 0.05
"""A plan that comes this near to its budget, as a share of it, meets it."""

_PRICES = (1e-12, 1e12)
"""Of computing all iterations, in units of error: every iteration is worth the lower one, and none the higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How the chunks of a window go through its iterations.

    Attributes:
        iterations: how many there are.
        starts: iteration of each chunk's first denoise step; the others follow one by one.
        cost: FLOPs that an iteration costs more where it is computed, `[iterations]`.
        base: FLOPs of the window where nothing is computed.
        levels: noise level of each denoise step.
        vanilla: FLOPs of the window without a cache.
    """

    iterations: int
    starts: tuple[int, ...]
    cost: tuple[int, ...]
    base: int
    levels: tuple[float, ...]
    vanilla: int

    @property
    def whole(self) -> int:
        """FLOPs where everything is computed."""
        return self.base + sum(self.cost)

    def flops(self, plan: Sequence[bool]) -> int:
        """FLOPs of a plan for its iterations."""
        return self.base + sum(cost for cost, computed in zip(self.cost, plan, strict=True) if computed)

    def of_one_chunk(self) -> "Course":
        """The denoise steps of a chunk by itself, with the mean cost of one that all chunks take."""
        steps = len(self.levels)
        return replace(self, iterations=steps, starts=(0,), cost=(sum(self.cost) // steps,) * steps)


def solve_plan(course: Course, forecast: Forecast, budget: float) -> tuple[bool, ...]:
    """The iterations to compute, for at most `budget` FLOPs; for more only where too much of it would be left over.

    An iteration is computed for all chunks or for none: a chunk that is computed alone would attend to keys that others
    wrote at another noise level. Where a chunk begins there is nothing to forecast it from. All else is the shortest
    path through pairs of computed iterations, where a pair decides the forecasts up to the next one, and a price of
    FLOPs is raised until the budget is kept; what is left of it is spent where it helps most.

    Raises:
        ConfigError: if the budget does not pay for the iterations that have to be computed.
    """
    if course.whole <= budget:
        return (True,) * course.iterations
    errors = _Errors(course, forecast)
    least = _path(course, errors, _PRICES[1])
    if _cost(course, least) > (1 + CLOSE) * budget:
        raise _too_fast(course, budget, f"every chunk's first step and at least one iteration in {LONGEST}", least)
    best = _within(course, errors, budget, least)
    left = budget - _cost(course, best)
    if left > CLOSE * budget:
        best = _nearest(course, errors, [best, _within(course, errors, budget + left, least)], budget)
    return tuple(i in set(best) for i in range(course.iterations))


def even_plan(course: Course, budget: float) -> tuple[bool, ...]:
    """As many evenly spread iterations as `budget` FLOPs pay for, besides those where a chunk begins.

    Raises:
        ConfigError: if the budget does not pay for these.
    """
    for count in range(course.iterations, -1, -1):
        spread = {i * course.iterations // count for i in range(count)}
        plan = sorted(spread | set(course.starts))
        if _cost(course, plan) <= budget:
            return tuple(i in plan for i in range(course.iterations))
    raise _too_fast(course, budget, "every chunk's first step", sorted(set(course.starts)))


class _Errors:
    """Errors of forecasts between computed iterations, kept for the search."""

    def __init__(self, course: Course, forecast: Forecast) -> None:
        self._course = course
        self._forecast = forecast
        self._steps = len(course.levels)
        self._by_steps: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._after: dict[tuple[int, int], NDArray[np.float64]] = {}
        self._tables: dict[int, NDArray[np.float64]] = {}

    def table(self, last: int) -> NDArray[np.float64]:
        """`after` for each iteration that may have been the one before, the nearest first, `[gaps, n]`."""
        if last not in self._tables:
            before = [last - gap for gap in range(1, min(last, LONGEST) + 1)] or [-1]
            self._tables[last] = np.stack([self.after(last, iteration) for iteration in before])
        return self._tables[last]

    def after(self, last: int, before: int) -> NDArray[np.float64]:
        """Error of forecasting everything after `last` up to, not including, each of the iterations that follow.

        `[n]`, from `last + 1` on; infinite past the beginning of a chunk. `before` is the computed iteration before
        `last`, -1 for none.
        """
        key = (last, before)
        if key not in self._after:
            end = min(last + LONGEST, self._course.iterations)
            error = np.zeros(end - last)
            for start in self._course.starts:
                if last < start < end:
                    error[start - last :] = np.inf
                elif start <= last:
                    self._add(error, last, before, start)
            self._after[key] = error
        return self._after[key]

    def _add(self, error: NDArray[np.float64], last: int, before: int, start: int) -> None:
        """Add those of one chunk: `error[i]` is that of iterations up to `last + i`."""
        step = last - start
        if step >= self._steps:
            return
        computed = (step, before - start) if before >= start and self._forecast.order > 1 else (step,)
        if computed not in self._by_steps:
            self._by_steps[computed] = self._forecast.harm(computed)
        harm = self._by_steps[computed][step : step + len(error)]
        error[: len(harm)] += harm
        error[len(harm) :] += harm[-1]

    def total(self, plan: Sequence[int]) -> float:
        """Error of a whole plan; infinite where it is not one."""
        total, before = 0.0, -1
        for last, following in zip(plan, [*plan[1:], self._course.iterations], strict=True):
            after = self.after(last, before)
            if following - last > len(after):
                return np.inf
            total += float(after[following - last - 1])
            before = last
        return total


def _within(course: Course, errors: _Errors, budget: float, least: list[int]) -> list[int]:
    """The best plan for at most `budget` FLOPs, or the one that costs least if none does."""
    (low, high), best = _PRICES, least
    for _ in range(60):
        middle = (low * high) ** 0.5
        plan = _path(course, errors, middle)
        if _cost(course, plan) > budget:
            low = middle
        else:
            best, high = plan, middle
    return _fill(course, errors, best, budget)


def _path(course: Course, errors: _Errors, price: float) -> list[int]:
    """The plan with the least error plus price of its FLOPs."""
    end = course.iterations
    cost = np.array([*course.cost, 0.0]) / course.whole * price
    # What is still to come, by the last computed iteration and how long before it the one before was computed.
    value = np.zeros((end + 1, LONGEST + 1))
    choice = np.zeros((end, LONGEST + 1), int)
    for last in range(end - 1, -1, -1):
        after = errors.table(last)  # [gaps, following]
        count = after.shape[1]
        onward = value[last + 1 :, 1:].diagonal()[:count]  # of each that follows, with the gap to `last`
        total = after + cost[last + 1 : last + 1 + count] + onward
        gaps = slice(1, 1 + len(after)) if last else slice(0, 1)
        value[last, gaps], choice[last, gaps] = total.min(axis=1), last + 1 + total.argmin(axis=1)
    plan, gap = [0], 0
    while (then := int(choice[plan[-1], gap])) < end:
        gap = then - plan[-1]
        plan.append(then)
    return plan


def _fill(course: Course, errors: _Errors, plan: list[int], budget: float) -> list[int]:
    """Add single iterations while the budget pays for them, the most useful one first."""
    while True:
        left = budget - _cost(course, plan)
        wider = [sorted([*plan, i]) for i in range(course.iterations) if i not in plan and course.cost[i] <= left]
        if not wider:
            return plan
        plan = min(wider, key=errors.total)


def _nearest(course: Course, errors: _Errors, plans: Sequence[list[int]], budget: float) -> list[int]:
    """The best that meets the budget, of some plans and those that differ by an iteration; else the nearest to it."""

    def miss(plan: list[int]) -> float:
        return max(abs(_cost(course, plan) / budget - 1), CLOSE)

    around = [*plans, *(changed for plan in plans for changed in _changed(plan, course.iterations))]
    possible = [plan for plan in around if errors.total(plan) < np.inf]
    return min(possible, key=lambda plan: (miss(plan), errors.total(plan)))


def _changed(plan: list[int], iterations: int) -> Iterator[list[int]]:
    """With one iteration more, one less, or another in its place; the first one stays."""
    others = [i for i in range(iterations) if i not in plan]
    yield from (sorted([*plan, i]) for i in others)
    for left_out in plan[1:]:
        kept = [i for i in plan if i != left_out]
        yield kept
        yield from (sorted([*kept, i]) for i in others)


def _cost(course: Course, plan: Sequence[int]) -> int:
    return course.base + sum(course.cost[i] for i in plan)


def _too_fast(course: Course, budget: float, needed: str, plan: Sequence[int]) -> ConfigError:
    most = math.floor(course.vanilla / _cost(course, plan) * 100) / 100
    return ConfigError(
        f"target_speedup: {course.vanilla / budget:g} is too much for this video: {needed} cannot be left out; "
        f"pass {most:g} or less, or more denoise steps"
    )
