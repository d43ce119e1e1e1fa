"""The error of the forecasts in a gap between two computed iterations of a window."""

from collections.abc import Sequence

import numpy as np

from motioncache.forecast.prediction import Array, Forecast
from motioncache.forecast.profile import WindowProfile

MAX_GAP = 16
"""The largest distance between two computed iterations."""

NONE_BEFORE = -1
"""Stands for the computed iteration before the first one."""


class GapErrors:
    """Sums the harm of forecasts over the chunks of a window, gap by gap, and keeps the sums for the search.

    An error is infinite where the first step of a chunk would be forecast.
    """

    def __init__(self, profile: WindowProfile, forecast: Forecast) -> None:
        self._profile = profile
        self._forecast = forecast
        self._harm: dict[tuple[int, ...], Array] = {}
        self._errors: dict[tuple[int, int], Array] = {}
        self._tables: dict[int, Array] = {}

    def table(self, last: int) -> Array:
        """`until_next(last, before)` for every `before` that is near enough, the nearest first, `[gaps, n]`."""
        if last not in self._tables:
            candidates = [last - gap for gap in range(1, min(last, MAX_GAP) + 1)] or [NONE_BEFORE]
            self._tables[last] = np.stack([self.until_next(last, before) for before in candidates])
        return self._tables[last]

    def until_next(self, last: int, before: int) -> Array:
        """Error of the forecasts after the computed iteration `last`, by which iteration is computed next, `[n]`.

        Entry i is the error if that is iteration `last + 1 + i`; the end of the window counts as one.

        Args:
            before: the computed iteration before `last`, or `NONE_BEFORE`.
        """
        key = (last, before)
        if key not in self._errors:
            end = min(last + MAX_GAP, self._profile.iterations)
            error = np.zeros(end - last)
            for start in self._profile.starts:
                if last < start < end:
                    error[start - last :] = np.inf
                elif start <= last:
                    self._add_chunk(error, last, before, start)
            self._errors[key] = error
        return self._errors[key]

    def _add_chunk(self, error: Array, last: int, before: int, start: int) -> None:
        """Add the error of the chunk that starts at iteration `start`."""
        step = last - start
        if step >= len(self._profile.sigmas):
            return
        computed = (step, before - start) if before >= start and self._forecast.order > 1 else (step,)
        if computed not in self._harm:
            self._harm[computed] = self._forecast.harm(computed)
        harm = self._harm[computed][step : step + len(error)]
        error[: len(harm)] += harm
        error[len(harm) :] += harm[-1]  # the chunk is finished, its harm is done

    def total(self, computed: Sequence[int]) -> float:
        """Error of the window if the `computed` iterations are computed; infinite if a gap exceeds `MAX_GAP`."""
        total, before = 0.0, NONE_BEFORE
        for last, following in zip(computed, [*computed[1:], self._profile.iterations], strict=True):
            error = self.until_next(last, before)
            if following - last > len(error):
                return np.inf
            total += float(error[following - last - 1])
            before = last
        return total
