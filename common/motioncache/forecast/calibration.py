"""Forecast of a chunk's velocity from the ones it has computed, with coefficients that were measured on the model.

A calibration holds the mean products of a chunk's velocities at any two noise levels, taken from videos that were
sampled without a cache. From these alone follow the best linear forecast of a velocity from earlier ones, and its mean
error. Beside it stands what such an error does to the video in the end.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.errors import ConfigError

Array = NDArray[np.float64]

_RIDGE = 1e-6
"""Keeps two velocities apart that are almost the same, as a share of their mean square."""


@dataclass(frozen=True)
class ModelIdentity:
    """Tells one transformer, and how it is guided, from another.

    Attributes:
        layers, width: its size.
        guidance: scale of classifier-free guidance, 1 without; None where guidance belongs to the model.
        weights: some values of its last projection, see `sample_weights`; empty where they are not in memory.
    """

    layers: int
    width: int
    weights: tuple[float, ...]
    guidance: float | None = None

    def differs(self, other: "ModelIdentity") -> str | None:
        """In what this differs from another one; None where in nothing but the rounding of weights."""
        if (self.layers, self.width) != (other.layers, other.width):
            return f"on depth {self.layers} and width {self.width}, not {other.layers} and {other.width}"
        if self.guidance != other.guidance:
            return f"with a guidance scale of {self.guidance}, not {other.guidance}"
        own, others = np.array(self.weights), np.array(other.weights)
        if not len(own) or not len(others):
            return None
        same = len(own) == len(others) and np.linalg.norm(own - others) <= _SAME_WEIGHTS * np.linalg.norm(own)
        return None if same else "on other weights"


_SAME_WEIGHTS = 0.01
"""Relative distance of two samples of weights that rounding to 16 bits may be the cause of."""


def sample_weights(projection: torch.Tensor) -> tuple[float, ...]:
    """The first 16 values of a weight; none where it is not in memory, or in 8 bits, which change it too much."""
    if projection.is_meta or projection.element_size() < 2:
        return ()
    return tuple(float(value) for value in projection.detach().flatten()[:16].cpu())


@dataclass(frozen=True)
class Calibration:
    """What was measured on a model.

    Attributes:
        model: the transformer that it was measured on.
        levels: noise levels, falling from 1 (noise) towards 0 (clean), `[n]`.
        products: mean over values, chunks and videos of the product of the guided velocities at two levels, `[n, n]`.
        sensitivity: squared error of the final latents, added up over all chunks, over the one that the step from each
            level to the next brings into one of them, `[n]`.
    """

    model: ModelIdentity
    levels: tuple[float, ...]
    products: Array
    sensitivity: Array

    def __post_init__(self) -> None:
        count = len(self.levels)
        if count < 2 or not all(a > b for a, b in pairwise(self.levels)):
            raise ConfigError("a calibration needs falling noise levels")
        if self.products.shape != (count, count) or not np.isfinite(self.products).all():
            raise ConfigError("a calibration of n levels needs n x n finite products")
        finite = np.isfinite(self.sensitivity).all()
        if self.sensitivity.shape != (count,) or not finite or not (self.sensitivity > 0).all():
            raise ConfigError("a calibration needs a positive sensitivity for each level")

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a file that `save` has written.

        Raises:
            ConfigError: if it is missing or damaged; it says how to make one.
        """
        try:
            held: dict[str, Any] = json.loads(path.read_text())
            levels = tuple(map(float, held["levels"]))
            products, sensitivity = (np.array(held[key], np.float64) for key in ("products", "sensitivity"))
            guidance = None if held["guidance"] is None else float(held["guidance"])
            weights = tuple(map(float, held["weights"]))
            model = ModelIdentity(int(held["layers"]), int(held["width"]), weights, guidance)
        except FileNotFoundError:
            raise ConfigError(
                f"there is no calibration {path}: make one with python -m motioncache_eval.calibrate"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not a calibration: {type(error).__name__}: {error}") from None
        try:
            return cls(model=model, levels=levels, products=products, sensitivity=sensitivity)
        except ConfigError as error:
            raise ConfigError(f"{path} is damaged: {error}") from None

    def save(self, path: Path) -> None:
        """Write as JSON."""
        rows = ",\n  ".join(json.dumps([float(f"{value:.7g}") for value in row]) for row in self.products)
        levels = json.dumps([round(level, 6) for level in self.levels])
        sensitivity = json.dumps([float(f"{value:.4g}") for value in self.sensitivity])
        guidance = json.dumps(self.model.guidance)
        weights = json.dumps([float(f"{value:.5g}") for value in self.model.weights])
        path.write_text(
            f'{{"layers": {self.model.layers}, "width": {self.model.width}, "guidance": {guidance},\n'
            f' "weights": {weights},\n'
            f' "levels": {levels},\n "sensitivity": {sensitivity},\n "products": [\n  {rows}]}}\n'
        )

    def at(self, levels: Sequence[float], order: int) -> "Forecast":
        """The forecast for a schedule with other noise levels.

        Velocities are taken to be linear between levels; for the sensitivity see `sensitivity_between`.
        """
        known = np.array(self.levels)[::-1]
        place = np.interp(levels, known, np.arange(len(known))[::-1])  # where among the measured ones
        lower = np.minimum(place.astype(int), len(known) - 2)
        share = place - lower
        mix = np.zeros((len(levels), len(known)))
        rows = np.arange(len(levels))
        mix[rows, lower], mix[rows, lower + 1] = 1 - share, share
        sensitivity = sensitivity_between(self.levels, self.sensitivity, levels)
        return Forecast(tuple(levels), mix @ self.products @ mix.T, sensitivity, order)


@dataclass(frozen=True)
class Forecast:
    """Forecasts over the denoise steps of one schedule.

    Attributes:
        levels: noise level of each step, `[n]`; the last one ends at 0.
        products, sensitivity: see `Calibration`, `[n, n]` and `[n]`.
        order: velocities that a forecast is made from.
    """

    levels: tuple[float, ...]
    products: Array
    sensitivity: Array
    order: int

    def coefficients(self, step: int, computed: Sequence[int]) -> tuple[float, ...]:
        """What to multiply the velocities of the `computed` steps with, the latest first, by least squares."""
        return tuple(float(c) for c in self._solve(list(computed[: self.order]))[:, step])

    def _solve(self, known: list[int]) -> Array:
        """Coefficients of the known steps for every step, `[k, n]`."""
        among = self.products[np.ix_(known, known)]
        ridge = _RIDGE * np.trace(among) / len(known) * np.eye(len(known))
        return np.asarray(np.linalg.solve(among + ridge, self.products[known]), np.float64)

    @cached_property
    def lengths(self) -> Array:
        """How far the noise level falls at each step, `[n]`."""
        return np.array(self.levels) - _ends(self.levels)

    @cached_property
    def weight(self) -> Array:
        """What a squared error of the velocity at each step weighs, `[n]`.

        It moves the latents by the length of the step, and what follows carries it on.
        """
        return self.lengths**2 * self.sensitivity

    def errors(self, computed: Sequence[int]) -> Array:
        """Weighted mean squared error of every step's forecast from the `computed` ones, `[n]`."""
        return self._square(self._off(computed))

    def harm(self, computed: Sequence[int]) -> Array:
        """Weighted mean squared error of the latents after every step, all since the last computed one forecast, `[n]`.

        Forecasts from the same velocities are off in the same direction, so they add up as vectors, not as squares.
        """
        off = self._off(computed)
        off[: computed[0] + 1] = 0.0
        return self._square(np.cumsum(off, axis=0))

    def _off(self, computed: Sequence[int]) -> Array:
        """How far every step's forecast is off, weighted, as a sum of velocities, `[n, n]`."""
        known = list(computed[: self.order])
        off = np.eye(len(self.levels))
        off[:, known] -= self._solve(known).T
        return off * np.sqrt(self.weight)[:, None]

    def _square(self, sums: Array) -> Array:
        """Mean square of sums of velocities, `[n]`."""
        return np.maximum(((sums @ self.products) * sums).sum(axis=1), 0.0)


def sensitivity_between(known: Sequence[float], sensitivity: Array, levels: Sequence[float]) -> Array:
    """The sensitivity of the steps of one schedule from that of another, both given by their noise levels.

    It depends on the level that an error is brought in at, the one where a step ends; in between its logarithm is
    taken to be linear.
    """
    return np.asarray(np.exp(np.interp(_ends(levels), _ends(known)[::-1], np.log(sensitivity[::-1]))), np.float64)


def _ends(levels: Sequence[float]) -> Array:
    """Noise level where each step ends."""
    return np.array([*levels[1:], 0.0])


def velocity_products(velocities: Array) -> Array:
    """Mean over values of the product of a chunk's velocities at any two steps, `[n, values]` to `[n, n]`."""
    return velocities @ velocities.T / velocities.shape[1]
