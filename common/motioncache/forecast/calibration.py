"""What was measured on a model so that its velocities can be forecast, and the file that it is kept in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motioncache.errors import ConfigError
from motioncache.forecast.prediction import Array, Forecast, end_sigmas

_SAME_WEIGHTS = 0.01
"""Weights are the same up to this relative distance, which rounding to 16 bits stays below."""


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
        """Say how this model differs from `other`, to follow "was measured"; None if only by rounding."""
        if (self.layers, self.width) != (other.layers, other.width):
            return f"on depth {self.layers} and width {self.width}, not {other.layers} and {other.width}"
        if self.guidance != other.guidance:
            return f"with a guidance scale of {self.guidance}, not {other.guidance}"
        own, others = np.array(self.weights), np.array(other.weights)
        if not len(own) or not len(others):
            return None
        same = len(own) == len(others) and np.linalg.norm(own - others) <= _SAME_WEIGHTS * np.linalg.norm(own)
        return None if same else "on other weights"


def sample_weights(projection: torch.Tensor) -> tuple[float, ...]:
    """Take the first 16 values of a weight.

    Take none if the weight is not in memory, or has 8 bits: rounding to so few changes it too much to compare.
    """
    if projection.is_meta or projection.element_size() < 2:
        return ()
    return tuple(float(value) for value in projection.detach().flatten()[:16].cpu())


@dataclass(frozen=True)
class Calibration:
    """What was measured on a model, in videos that were sampled without a cache.

    Attributes:
        model: the transformer that was measured.
        sigmas: the noise level of each measured step, falling from 1 (noise) towards 0 (clean), `[n]`.
        products: mean over chunks and videos of the `velocity_products` of guided velocities, `[n, n]`.
        sensitivity: how many times larger a squared error of a chunk's latents, brought in by each step, is in the
            final latents of all chunks together, `[n]`.
    """

    model: ModelIdentity
    sigmas: tuple[float, ...]
    products: Array
    sensitivity: Array

    def __post_init__(self) -> None:
        count = len(self.sigmas)
        if count < 2 or not all(a > b for a, b in pairwise(self.sigmas)):
            raise ConfigError("a calibration needs falling sigmas")
        if self.products.shape != (count, count) or not np.isfinite(self.products).all():
            raise ConfigError("a calibration of n sigmas needs n x n finite products")
        finite = np.isfinite(self.sensitivity).all()
        if self.sensitivity.shape != (count,) or not finite or not (self.sensitivity > 0).all():
            raise ConfigError("a calibration needs a positive sensitivity for each sigma")

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a file that `save` has written.

        Raises:
            ConfigError: if the file is missing or damaged; the error says how to make one.
        """
        try:
            attributes = _parse(json.loads(path.read_text()))
        except FileNotFoundError:
            raise ConfigError(
                f"there is no calibration {path}: make one with python -m motioncache_eval.calibrate"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is not a calibration: {type(error).__name__}: {error}") from None
        try:
            return cls(**attributes)
        except ConfigError as error:
            raise ConfigError(f"{path} is damaged: {error}") from None

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        rows = ",\n  ".join(_json_numbers(row, digits=7) for row in self.products)
        path.write_text(
            f'{{"layers": {self.model.layers}, "width": {self.model.width}, '
            f'"guidance": {json.dumps(self.model.guidance)},\n'
            f' "weights": {_json_numbers(self.model.weights, digits=5)},\n'
            f' "sigmas": {json.dumps([round(sigma, 6) for sigma in self.sigmas])},\n'
            f' "sensitivity": {_json_numbers(self.sensitivity, digits=4)},\n'
            f' "products": [\n  {rows}]}}\n'
        )

    def at(self, sigmas: Sequence[float], order: int) -> Forecast:
        """Make the forecast for a schedule with other noise levels.

        A velocity between two measured noise levels is taken to be the linear mix of the two measured velocities. For
        the sensitivity see `sensitivity_between`.
        """
        measured = np.array(self.sigmas)[::-1]
        place = np.interp(sigmas, measured, np.arange(len(measured))[::-1])  # fractional index among the measured steps
        lower = np.minimum(place.astype(int), len(measured) - 2)
        share = place - lower
        mix = np.zeros((len(sigmas), len(measured)))  # [steps, measured steps]
        rows = np.arange(len(sigmas))
        mix[rows, lower], mix[rows, lower + 1] = 1 - share, share
        sensitivity = sensitivity_between(self.sigmas, self.sensitivity, sigmas)
        return Forecast(tuple(sigmas), mix @ self.products @ mix.T, sensitivity, order)


def sensitivity_between(measured: Sequence[float], sensitivity: Array, sigmas: Sequence[float]) -> Array:
    """Interpolate the sensitivity of a schedule with noise levels `measured` to one with other noise levels, `[n]`.

    A step brings its error in at the noise level where it ends, and the sensitivity depends on that level. Its
    logarithm is taken to be linear between two measured levels.
    """
    logarithm = np.interp(end_sigmas(sigmas), end_sigmas(measured)[::-1], np.log(sensitivity[::-1]))
    return np.asarray(np.exp(logarithm), np.float64)


def _parse(content: dict[str, Any]) -> dict[str, Any]:
    """The attributes of the calibration that a file holds."""
    return {
        "model": ModelIdentity(
            layers=int(content["layers"]),
            width=int(content["width"]),
            weights=tuple(map(float, content["weights"])),
            guidance=None if content["guidance"] is None else float(content["guidance"]),
        ),
        "sigmas": tuple(map(float, content["sigmas"])),
        "products": np.array(content["products"], np.float64),
        "sensitivity": np.array(content["sensitivity"], np.float64),
    }


def _json_numbers(numbers: Sequence[float] | Array, *, digits: int) -> str:
    """A JSON list of numbers, each rounded to so many significant digits."""
    return json.dumps([float(f"{number:.{digits}g}") for number in numbers])
