"""Forecasts of a chunk's velocity from earlier ones, and the error that they bring into the video."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_RIDGE = 1e-6
"""Added to the diagonal, as a share of its mean, so that two nearly equal velocities get no huge coefficients."""


@dataclass(frozen=True)
class Forecast:
    """The best linear forecast of every denoise step of one schedule, and its expected error.

    With v(s) the velocity of a chunk at its denoise step s, and K the known (computed) steps,

        v^(s) = sum over k in K of c(k, s) v(k)    with    G[K, K] c[K, s] = G[K, s]

    has the least mean squared error over the videos that G = `products` was measured on.

    Attributes:
        sigmas: noise level of each step, falling, `[n]`; the last step ends at 0.
        products: mean over chunks and videos of `velocity_products`, `[n, n]`.
        sensitivity: how many times larger a squared error of each step's latents is in the final latents, `[n]`.
        order: the largest number of velocities that a forecast is made from.
    """

    sigmas: tuple[float, ...]
    products: Array
    sensitivity: Array
    order: int

    def coefficients(self, step: int, computed: Sequence[int], branch: str = "") -> tuple[float, ...]:
        """Coefficients of the last `order` of the `computed` steps, latest first, in the forecast of `step`.

        Here they are alike in all CFG branches.
        """
        return tuple(float(c) for c in self.fit(list(computed[: self.order]))[:, step])

    def fit(self, known: list[int]) -> Array:
        """Least-squares coefficients of the `known` steps in the forecast of each step, `[known, n]`."""
        return least_squares(self.products[np.ix_(known, known)], self.products[known])

    @cached_property
    def lengths(self) -> Array:
        """How far sigma falls at each step, `[n]`."""
        return np.array(self.sigmas) - end_sigmas(self.sigmas)

    @cached_property
    def weight(self) -> Array:
        """Factor from a squared error of each step's velocity to one of the final latents, `[n]`.

        The step moves the latents by its length times the velocity; the sensitivity says what becomes of that.
        """
        return self.lengths**2 * self.sensitivity

    def errors(self, computed: Sequence[int]) -> Array:
        """Weighted mean squared error of each step's own forecast from the `computed` steps, latest first, `[n]`."""
        return self._mean_square(self._error_vectors(computed))

    def relative_error(self, step: int, computed: Sequence[int]) -> float:
        """Expected squared error of one step's forecast from the `computed` steps, over its squared velocity."""
        return float(self.errors(computed)[step] / self.weight[step] / self.products[step, step])

    def harm(self, computed: Sequence[int]) -> Array:
        """Weighted mean squared error that a gap has brought into the latents when each step is over, `[n]`.

        The gap begins after the last of the `computed` steps (latest first); until then the harm is 0. Forecasts from
        the same velocities are wrong in nearly the same direction, so their errors add up as vectors, not as squares.
        """
        vectors = self._error_vectors(computed)
        vectors[: computed[0] + 1] = 0.0
        return self._mean_square(np.cumsum(vectors, axis=0))

    def _error_vectors(self, computed: Sequence[int]) -> Array:
        """sqrt(weight) (v(s) - v^(s)) of every step s, each row as coefficients of all velocities, `[n, n]`."""
        known = list(computed[: self.order])
        vectors = np.eye(len(self.sigmas))
        vectors[:, known] -= self.fit(known).T
        return vectors * np.sqrt(self.weight)[:, None]

    def _mean_square(self, vectors: Array) -> Array:
        """Mean square of vectors that are given as coefficients of all velocities, `[n, n]` to `[n]`."""
        return np.maximum(((vectors @ self.products) * vectors).sum(axis=1), 0.0)


def least_squares(among: Array, with_wanted: Array) -> Array:
    """Coefficients of some vectors in the forecast of others, `[known, wanted]`.

    Args:
        among: products of the vectors with each other, `[known, known]`.
        with_wanted: their products with those that are forecast, `[known, wanted]`.
    """
    ridge = _RIDGE * np.trace(among) / len(among) * np.eye(len(among))
    return np.asarray(np.linalg.solve(among + ridge, with_wanted), np.float64)


def velocity_products(velocities: Array) -> Array:
    """Mean over values of the product of a chunk's velocities at every two steps, `[n, values]` to `[n, n]`."""
    return velocities @ velocities.T / velocities.shape[1]


def end_sigmas(sigmas: Sequence[float]) -> Array:
    """The noise level at which each step ends, `[n]`: the next step's, and 0 after the last."""
    return np.array([*sigmas[1:], 0.0])
