"""Forecasts of a guided velocity in two parts: what the model predicts without the prompt, and what the prompt adds.

With u the velocity of a chunk without its prompt, c the one with it, and w the scale, the guided velocity is

    v = u + w (c - u)

The two parts go different ways from step to step, the more so the stronger the guidance. So each has coefficients of
its own, and together they have the least mean squared error:

    v^(s) = sum over k in K of  a(k, s) u(k) + b(k, s) w (c(k) - u(k))

A branch is forecast from its own velocities alone: c^ with b, and u^ so that both make v^.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motioncache.forecast.prediction import Array, Forecast, least_squares

Shares = Mapping[str, float]
"""The factor of each CFG branch in a sum over branches."""


def two_parts(shares: Shares) -> tuple[Shares, Shares] | None:
    """How the branches make u, and how they make c - u; None where guidance does not add up from two.

    Args:
        shares: the factor of each branch in the guided velocity.
    """
    if len(shares) != 2 or min(shares.values()) >= 0:
        return None
    without, given = sorted(shares, key=lambda branch: shares[branch])
    return {without: 1.0, given: 0.0}, {without: -1.0, given: 1.0}


def measured_products(found: Array, shares: Shares) -> tuple[Array, Array | None]:
    """Products of the guided velocity, and of its parts if it has two, from those that were measured.

    Args:
        found: products of velocities; where guidance has two parts, of all steps of u and then of c - u.
    """
    parts = None if two_parts(shares) is None else found
    return (found if parts is None else guided_products(parts, max(shares.values()))), parts


def guided_products(parts: Array, scale: float) -> Array:
    """Products of the guided velocity from those of u and c - u, `[2n, 2n]` to `[n, n]`."""
    n = len(parts) // 2
    mixing = np.concatenate([np.eye(n), scale * np.eye(n)], axis=1)
    return np.asarray(mixing @ parts @ mixing.T, np.float64)


@dataclass(frozen=True)
class GuidedForecast(Forecast):
    """See the module; `products` are those of the guided velocity.

    Attributes:
        parts: mean products of u and w (c - u), all steps of the first, then all of the second, `[2n, 2n]`.
        shares: the factor of each branch in the guided velocity.
    """

    parts: Array
    shares: Shares

    def coefficients(self, step: int, computed: Sequence[int], branch: str = "") -> tuple[float, ...]:
        own, added = np.split(self.fit(list(computed[: self.order]))[:, step], 2)
        share = self.shares[branch]
        mixed = added if share > 0 else (own - (1 - share) * added) / share
        return tuple(float(c) for c in mixed)

    def fit(self, known: list[int]) -> Array:
        """Coefficients of u at the `known` steps, and of w (c - u), in the forecast of each step, `[2 known, n]`."""
        rows = self._rows(known)
        with_guided = self.parts[rows].reshape(len(rows), 2, -1).sum(axis=1)
        return least_squares(self.parts[np.ix_(rows, rows)], with_guided)

    def _error_vectors(self, computed: Sequence[int]) -> Array:
        known = list(computed[: self.order])
        vectors = np.tile(np.eye(len(self.sigmas)), 2)
        vectors[:, self._rows(known)] -= self.fit(known).T
        return vectors * np.sqrt(self.weight)[:, None]

    def _mean_square(self, vectors: Array) -> Array:
        return np.maximum(((vectors @ self.parts) * vectors).sum(axis=1), 0.0)

    def _rows(self, known: list[int]) -> list[int]:
        return [*known, *(len(self.sigmas) + k for k in known)]
