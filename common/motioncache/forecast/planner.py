"""The planner: chooses, before sampling, the iterations of a window to compute within a budget of FLOPs.

What it chooses are the *planned iterations*: for each iteration of the window, whether it is computed. The search holds
them as `computed`, the sorted list of those that are, which begins with iteration 0. Pure functions.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from motioncache.errors import ConfigError
from motioncache.forecast.gap_errors import MAX_GAP, GapErrors
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile

BUDGET_TOLERANCE = 0.05
"""Planned iterations whose FLOPs differ from the budget by at most this share of it meet it."""

_PRICE_RANGE = (1e-12, 1e12)
"""The prices to search, lowest and highest: the error that the FLOPs of the full window are worth.

At the lowest price it pays to compute every iteration, at the highest only those that have to be computed.
"""

_BISECTIONS = 60


def plan_iterations(profile: WindowProfile, forecast: Forecast, budget: float) -> tuple[bool, ...]:
    """Choose the iterations to compute so that the forecasts at the others do the least harm.

    An iteration is computed for all chunks or for none: a chunk that is computed alone would attend to keys that the
    others wrote at another noise level. Where a chunk starts the iteration is computed, as there is nothing to forecast
    the chunk from. No two computed iterations are more than `MAX_GAP` apart.

    Args:
        budget: FLOPs that the window may take. If the best choice within them leaves more than `BUDGET_TOLERANCE` of
            them unused, the choice whose FLOPs come nearest to the budget is taken instead, even if it exceeds them.

    Raises:
        ConfigError: if the budget does not pay for the iterations that have to be computed.
    """
    if profile.full_flops <= budget:
        return (True,) * profile.iterations
    errors = GapErrors(profile, forecast)
    cheapest = _shortest_path(profile, errors, price=_PRICE_RANGE[1])
    if _flops(profile, cheapest) > (1 + BUDGET_TOLERANCE) * budget:
        raise _too_fast(profile, budget, f"every chunk's first step and at least one iteration in {MAX_GAP}", cheapest)
    best = _best_within(profile, errors, budget, cheapest)
    left = budget - _flops(profile, best)
    if left > BUDGET_TOLERANCE * budget:
        beyond = _best_within(profile, errors, budget + left, cheapest)
        best = _nearest(profile, errors, [best, beyond], budget)
    return _planned(profile, best)


def plan_evenly(profile: WindowProfile, budget: float) -> tuple[bool, ...]:
    """Choose as many evenly spread iterations as the budget pays for, besides those where a chunk starts.

    Raises:
        ConfigError: if the budget does not pay for the iterations where a chunk starts.
    """
    starts = set(profile.starts)
    for count in range(profile.iterations, -1, -1):
        spread = {i * profile.iterations // count for i in range(count)}
        computed = sorted(spread | starts)
        if _flops(profile, computed) <= budget:
            return _planned(profile, computed)
    raise _too_fast(profile, budget, "every chunk's first step", sorted(starts))


def _best_within(profile: WindowProfile, errors: GapErrors, budget: float, cheapest: list[int]) -> list[int]:
    """Find the iterations with the least error for at most `budget` FLOPs; `cheapest` if they pay for no others.

    A higher price of FLOPs never leads to more FLOPs, so bisection (of the price's logarithm) finds the lowest price
    that keeps the budget. The FLOPs rise in jumps from one price to the next; single iterations fill what is left.
    """
    low, high = _PRICE_RANGE
    best = cheapest
    for _ in range(_BISECTIONS):
        price = (low * high) ** 0.5
        computed = _shortest_path(profile, errors, price)
        if _flops(profile, computed) > budget:
            low = price
        else:
            best, high = computed, price
    return _fill(profile, errors, best, budget)


# A forecast of order 2 is made from the last two computed iterations. So the error of a gap depends on these two and on
# the next computed iteration, and on nothing before. The state of the dynamic programme is therefore the pair (last,
# gap): the last computed iteration, and its distance to the one computed before it, 0 for none. With `end` for the end
# of the window and last < next <= last + MAX_GAP,
#
#     value(last, gap) = min over next of   error of the forecasts strictly between last and next
#                                         + price * flops(next) + value(next, next - last)
#     value(end, gap)  = 0,   flops(end) = 0
#
# The table is filled in backwards, and the path begins at the state (0, 0): iteration 0 is always computed.
def _shortest_path(profile: WindowProfile, errors: GapErrors, price: float) -> list[int]:
    """Find the iterations with the least error + price * FLOPs, the FLOPs as a share of the full window's."""
    end = profile.iterations
    flops = np.array([*profile.iteration_flops, 0.0]) / profile.full_flops * price
    value = np.zeros((end + 1, MAX_GAP + 1))
    choice = np.zeros((end, MAX_GAP + 1), int)
    for last in range(end - 1, -1, -1):
        between = errors.table(last)  # [gaps, next]
        count = between.shape[1]
        onward = value[last + 1 :, 1:].diagonal()[:count]  # value(next, next - last) of each next
        total = between + flops[last + 1 : last + 1 + count] + onward
        gaps = slice(1, 1 + len(between)) if last else slice(0, 1)
        value[last, gaps], choice[last, gaps] = total.min(axis=1), last + 1 + total.argmin(axis=1)
    computed, gap = [0], 0
    while (following := int(choice[computed[-1], gap])) < end:
        gap = following - computed[-1]
        computed.append(following)
    return computed


def _fill(profile: WindowProfile, errors: GapErrors, computed: list[int], budget: float) -> list[int]:
    """Add single iterations, the one that leaves the least error first, while the budget pays for one."""
    while True:
        left = budget - _flops(profile, computed)
        affordable = [i for i in range(profile.iterations) if i not in computed and profile.iteration_flops[i] <= left]
        if not affordable:
            return computed
        computed = min((sorted([*computed, i]) for i in affordable), key=errors.total)


def _nearest(profile: WindowProfile, errors: GapErrors, found: Sequence[list[int]], budget: float) -> list[int]:
    """Take the choice whose FLOPs are nearest to the budget, among those `found` and those one change away.

    All that meet the budget count as equally near; of equally near ones the one with the least error is taken.
    """

    def miss(computed: list[int]) -> float:
        return max(abs(_flops(profile, computed) / budget - 1), BUDGET_TOLERANCE)

    candidates = [*found]
    for computed in found:
        candidates.extend(_changes(computed, profile.iterations))
    possible = [computed for computed in candidates if errors.total(computed) < np.inf]
    return min(possible, key=lambda computed: (miss(computed), errors.total(computed)))


def _changes(computed: list[int], iterations: int) -> Iterator[list[int]]:
    """Yield the choices with one iteration more, one less, or one exchanged for another; iteration 0 stays."""
    others = [i for i in range(iterations) if i not in computed]
    yield from (sorted([*computed, i]) for i in others)
    for left_out in computed[1:]:
        fewer = [i for i in computed if i != left_out]
        yield fewer
        yield from (sorted([*fewer, i]) for i in others)


def _planned(profile: WindowProfile, computed: Sequence[int]) -> tuple[bool, ...]:
    return tuple(i in computed for i in range(profile.iterations))


def _flops(profile: WindowProfile, computed: Sequence[int]) -> int:
    return profile.fixed_flops + sum(profile.iteration_flops[i] for i in computed)


def _too_fast(profile: WindowProfile, budget: float, needed: str, cheapest: Sequence[int]) -> ConfigError:
    most = math.floor(profile.uncached_flops / _flops(profile, cheapest) * 100) / 100
    return ConfigError(
        f"target_speedup: {profile.uncached_flops / budget:g} is too much for this video: {needed} cannot be left out; "
        f"pass {most:g} or less, or more denoise steps"
    )
