"""What a video says of itself, read off velocities that are computed anyway; nothing here waits for the device."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch

from motioncache.decision import Call, Decision
from motioncache.forecast.guided import two_parts
from motioncache.forecast.prediction import Array, Forecast, velocity_products
from motioncache.forecast.profile import WindowProfile
from motioncache.record import ForecastError

SAMPLED_VALUES = 1 << 16
"""Values of a chunk that are measured; a mean over so many is off by less than 1 %."""


class Watch(Protocol):
    """Sees the velocities of a window that are computed."""

    def observe(
        self, decision: Decision, computed: tuple[int, ...], velocity: torch.Tensor, earlier: Sequence[torch.Tensor]
    ) -> ForecastError | None:
        """See one velocity of one CFG branch.

        Args:
            computed: the steps that `earlier` belong to, the latest first.
            earlier: velocities of the branch that are kept, the latest first.
        """
        ...


class ErrorWatch:
    """Makes the forecast of each computed step that follows a gap, to see how far it would have been off.

    Args:
        shares: the factor of each CFG branch in the guided velocity.
    """

    def __init__(self, forecast: Forecast, shares: Mapping[str, float]) -> None:
        self._coefficients = cache(forecast.coefficients)
        self._expected = cache(forecast.relative_error)
        self._missed, self._velocity = GuidedSum(shares), GuidedSum(shares)

    def observe(
        self, decision: Decision, computed: tuple[int, ...], velocity: torch.Tensor, earlier: Sequence[torch.Tensor]
    ) -> ForecastError | None:
        call = decision.call
        if not computed or call.step - computed[0] < 2:
            return None
        missed = velocity.float()
        for coefficient, one in zip(self._coefficients(call.step, computed, call.branch), earlier, strict=True):
            missed = missed - coefficient * one.float()
        guided, whole = self._missed.add(call, missed), self._velocity.add(call, velocity.float())
        if guided is None or whole is None:
            return None
        found = guided.square().sum() / whole.square().sum()
        return ForecastError(found=found, expected=self._expected(call.step, computed))


class Measurement:
    """Measures the products of velocities in a window of which everything is computed.

    Args:
        shares: the factor of each CFG branch in the guided velocity.
        done: is given the mean over chunks of `velocity_products` when the last step is done; this is the only wait.
            Where guidance has two parts, see `two_parts`, they are those of both.
    """

    def __init__(self, profile: WindowProfile, shares: Mapping[str, float], done: Callable[[Array], None]) -> None:
        self._steps, self._chunks = len(profile.sigmas), len(profile.starts)
        self._sums = [GuidedSum(part) for part in two_parts(shares) or (shares,)]
        self._done = done
        self._velocities: dict[int, dict[tuple[int, int], torch.Tensor]] = {}  # by chunk, then by part and step
        self._products: list[Array] = []

    def observe(
        self, decision: Decision, computed: tuple[int, ...], velocity: torch.Tensor, earlier: Sequence[torch.Tensor]
    ) -> ForecastError | None:
        values = _sample(velocity)
        for part, sums in enumerate(self._sums):
            total = sums.add(decision.call, values)
            if total is not None:
                self._add(decision.call, part, total)
        return None

    def _add(self, call: Call, part: int, total: torch.Tensor) -> None:
        known = self._velocities.setdefault(call.chunk, {})
        known[part, call.step] = total
        if len(known) < len(self._sums) * self._steps:
            return
        stacked = torch.stack([known[place] for place in sorted(known)])  # [parts x steps, values]
        self._products.append(velocity_products(stacked.cpu().double().numpy()))
        del self._velocities[call.chunk]
        if len(self._products) == self._chunks:
            self._done(np.mean(self._products, axis=0))


class GuidedSum:
    """Adds up what the CFG branches contribute to a guided value of a chunk's step."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = shares
        self._waiting: dict[tuple[int, int], tuple[int, torch.Tensor]] = {}  # by chunk and step: branches, sum

    def add(self, call: Call, value: torch.Tensor) -> torch.Tensor | None:
        """Add the value of one branch; the sum, once all branches have come."""
        count, total = self._waiting.pop((call.chunk, call.step), (0, None))
        share = self._shares[call.branch] * value
        total = share if total is None else total + share
        if count + 1 == len(self._shares):
            return total
        self._waiting[call.chunk, call.step] = count + 1, total
        return None


def _sample(velocity: torch.Tensor) -> torch.Tensor:
    """Up to `SAMPLED_VALUES` values at equal distances, float32; always the same for the same size."""
    values = velocity.flatten()
    return values[:: -(-len(values) // SAMPLED_VALUES) | 1].float()  # an odd distance meets all columns
