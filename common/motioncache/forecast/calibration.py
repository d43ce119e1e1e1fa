"""What was measured on a model so that its velocities can be forecast, and the file that it is kept in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from motioncache.config import read_text
from motioncache.errors import ConfigError
from motioncache.field_types import require_range, require_type, require_types
from motioncache.forecast.guided import GuidedForecast, Shares, guided_products, two_parts
from motioncache.forecast.prediction import Array, Forecast, end_sigmas
from motioncache.plain import is_plain
from motioncache.whole_file import whole_file

_SAME_WEIGHTS = 0.01
"""Weights are the same up to this relative distance, which rounding to 16 bits stays below."""

_ENTRY_ERROR = 6e-7
"""How far a product may be off, as a share of the root of the two on the diagonal: half a unit of the 7 digits that are
written is 5e-7 at most, and the rest is ample for arithmetic in 64 bits."""

_POSITIVE = "in the range of float32"


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

    def __post_init__(self) -> None:
        require_types(self)
        require_range("layers", self.layers, self.layers >= 1, "1 or more")
        require_range("width", self.width, self.width >= 1, "1 or more")
        require_range("guidance", self.guidance, self.guidance is None or self.guidance >= 1, "null, or 1 or more")

    def differs(self, other: "ModelIdentity") -> str | None:
        """Say how this model, which was measured, differs from `other`, to follow "was measured".

        None for the same model but for rounding, however it is guided. Where the weights of `other` are not in memory,
        the size decides.
        """
        if (self.layers, self.width) != (other.layers, other.width):
            return f"on depth {self.layers} and width {self.width}, not {other.layers} and {other.width}"
        own, others = np.array(self.weights), np.array(other.weights)
        if not len(others):
            return None
        if not len(own):
            return "on weights that it does not name"
        same = len(own) == len(others) and np.linalg.norm(own - others) <= _SAME_WEIGHTS * np.linalg.norm(own)
        return None if same else "on other weights"


def sample_weights(projection: object) -> tuple[float, ...]:
    """Take the first 16 values of a weight.

    Take none if the weight is not in memory, is packed in a way that only its layer knows, or has 8 bits: rounding to
    so few changes it too much to compare.
    """
    if not is_plain(projection) or projection.element_size() < 2:
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
        parts: the same products of u and c - u, see `motioncache.forecast.guided`, `[2n, 2n]`; None where only the
            guided velocity was measured.
    """

    model: ModelIdentity
    sigmas: tuple[float, ...]
    products: Array
    sensitivity: Array
    parts: Array | None = None

    def __post_init__(self) -> None:
        require_types(self)
        count = len(self.sigmas)
        if count < 2 or not all(a > b for a, b in pairwise(self.sigmas)):
            raise ConfigError("a calibration needs falling sigmas")
        if not 1 >= self.sigmas[0] > self.sigmas[-1] > 0:
            raise ConfigError("a calibration needs sigmas above 0 that do not exceed 1")
        if self.products.shape != (count, count) or not np.isfinite(self.products).all():
            raise ConfigError("a calibration of n sigmas needs n x n finite products")
        if not _are_positive(np.diagonal(self.products)):
            raise ConfigError(f"a calibration needs positive products on the diagonal, {_POSITIVE}")
        if not _is_semidefinite(self.products):
            raise ConfigError("a calibration needs products that are symmetric and positive semidefinite")
        if self.sensitivity.shape != (count,) or not _are_positive(self.sensitivity):
            raise ConfigError(f"a calibration needs a positive sensitivity for each sigma, {_POSITIVE}")
        if self.parts is not None:
            _check_parts(self.parts, count)

    def misses(self, model: ModelIdentity, steps: int) -> str | None:
        """Say which guidance scale or number of steps it was not measured with, to follow "was measured"."""
        if self.model.guidance != model.guidance:
            return f"with a guidance scale of {_scale(self.model.guidance)}, not {_scale(model.guidance)}"
        return f"with {len(self.sigmas)} steps, not {steps}" if steps > len(self.sigmas) else None

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read a file that `save` has written.

        Raises:
            ConfigError: if the file is missing or damaged; the error says how to make one.
        """
        text = read_text(path, missing=f"there is no calibration {path}: make one with motioncache calibrate")
        try:
            return cls(**_parse(json.loads(text)))
        except ConfigError as error:
            raise ConfigError(f"{path} is damaged: {error}") from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{path} is not a calibration: {type(error).__name__}: {error}") from None

    def save(self, path: Path) -> None:
        """Write the calibration as JSON, whole or not at all."""
        rows = ",\n  ".join(_json_numbers(row, digits=7) for row in self.products)
        parts = "" if self.parts is None else ",\n  ".join(_json_numbers(row, digits=7) for row in self.parts)
        text = (
            f'{{"layers": {self.model.layers}, "width": {self.model.width}, '
            f'"guidance": {json.dumps(self.model.guidance)},\n'
            f' "weights": {_json_numbers(self.model.weights, digits=5)},\n'
            f' "sigmas": {json.dumps([round(sigma, 6) for sigma in self.sigmas])},\n'
            f' "sensitivity": {_json_numbers(self.sensitivity, digits=4)},\n'
            f' "products": [\n  {rows}]' + (f',\n "parts": [\n  {parts}]}}\n' if parts else "}\n")
        )
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def at(self, sigmas: Sequence[float], order: int, shares: Shares | None = None) -> Forecast:
        """Make the forecast for a schedule with other noise levels.

        A velocity between two measured noise levels is taken to be the linear mix of the two measured velocities. For
        the sensitivity see `sensitivity_between`.

        Args:
            shares: the factor of each CFG branch in the guided velocity, for a forecast in two parts where they were
                measured.
        """
        measured = np.array(self.sigmas)[::-1]
        place = np.interp(sigmas, measured, np.arange(len(measured))[::-1])  # fractional index among the measured steps
        lower = np.minimum(place.astype(int), len(measured) - 2)
        share = place - lower
        mix = np.zeros((len(sigmas), len(measured)))  # [steps, measured steps]
        rows = np.arange(len(sigmas))
        mix[rows, lower], mix[rows, lower + 1] = 1 - share, share
        sensitivity = sensitivity_between(self.sigmas, self.sensitivity, sigmas)
        if self.parts is None or shares is None or two_parts(shares) is None:
            return Forecast(tuple(sigmas), mix @ self.products @ mix.T, sensitivity, order)
        both = np.kron(np.diag([1.0, max(shares.values())]), mix)  # [2 steps, 2 measured steps]
        parts = both @ self.parts @ both.T
        return GuidedForecast(tuple(sigmas), guided_products(parts, 1.0), sensitivity, order, parts, shares)


def sensitivity_between(measured: Sequence[float], sensitivity: Array, sigmas: Sequence[float]) -> Array:
    """Interpolate the sensitivity of a schedule with noise levels `measured` to one with other noise levels, `[n]`.

    A step brings its error in at the noise level where it ends, and the sensitivity depends on that level.
    """
    return sensitivity_at(end_sigmas(sigmas), end_sigmas(measured), sensitivity)


def sensitivity_at(levels: Array, measured: Sequence[float] | Array, sensitivity: Array) -> Array:
    """Interpolate the sensitivity from `measured` noise levels, which fall, to others, `[n]`.

    Its logarithm is taken to be linear between two measured levels.
    """
    logarithm = np.interp(levels, np.array(measured)[::-1], np.log(sensitivity[::-1]))
    return np.asarray(np.exp(logarithm), np.float64)


def _scale(guidance: float | None) -> str:
    return "its own" if guidance is None else f"{guidance:g}"


def _parse(content: Any) -> dict[str, Any]:
    """The attributes of the calibration that a file holds."""
    read = {key: _to_tuples(content[key]) for key in ("layers", "width", "guidance", "weights", *_NUMBERS)}
    for key, hint in _NUMBERS.items():
        require_type(key, read[key], hint)
    parts = _to_tuples(content.get("parts"))
    require_type("parts", parts, tuple[tuple[float, ...], ...] | None)
    return {
        "model": ModelIdentity(
            layers=read["layers"], width=read["width"], weights=read["weights"], guidance=read["guidance"]
        ),
        "sigmas": tuple(map(float, read["sigmas"])),
        "products": np.array(read["products"], np.float64),
        "sensitivity": np.array(read["sensitivity"], np.float64),
        "parts": None if parts is None else np.array(parts, np.float64),
    }


_NUMBERS = {
    "sigmas": tuple[float, ...],
    "products": tuple[tuple[float, ...], ...],
    "sensitivity": tuple[float, ...],
}
"""The types of a file's lists of numbers."""


def _to_tuples(value: Any) -> Any:
    """A value of a JSON file, with tuples for its lists."""
    return tuple(map(_to_tuples, cast("list[Any]", value))) if isinstance(value, list) else value


def _check_parts(parts: Array, count: int) -> None:
    """Refuse parts that are no products of two velocities at `count` steps."""
    if parts.shape != (2 * count, 2 * count) or not np.isfinite(parts).all():
        raise ConfigError("a calibration of n sigmas needs parts of 2n x 2n finite products")
    if not _are_positive(np.diagonal(parts)) or not _is_semidefinite(parts):
        raise ConfigError("a calibration needs parts that are symmetric and positive semidefinite")


def _are_positive(values: Array) -> bool:
    """Whether values are positive in float32, which they were measured in; any others would not stay finite."""
    limits = np.finfo(np.float32)
    return bool(((values >= limits.tiny) & (values <= limits.max)).all())


def _is_semidefinite(products: Array) -> bool:
    """Whether products are symmetric and positive semidefinite but for rounding; their diagonal has to be positive.

    With their diagonal scaled to 1, no exact entry exceeds 1, and none is off by more than `_ENTRY_ERROR`. Two that
    are equal differ by twice that at most, and by Weyl's inequality no eigenvalue of n x n of them is off by more
    than n times that.
    """
    root = np.sqrt(np.diagonal(products))
    with np.errstate(over="ignore"):  # infinity is refused
        scaled = products / root[:, None] / root
    if np.abs(scaled).max() > 1 + 2 * _ENTRY_ERROR or np.abs(scaled - scaled.T).max() > 2 * _ENTRY_ERROR:
        return False
    return bool(np.linalg.eigvalsh((scaled + scaled.T) / 2)[0] >= -len(scaled) * _ENTRY_ERROR)


def _json_numbers(numbers: Sequence[float] | Array, *, digits: int) -> str:
    """A JSON list of numbers, each rounded to so many significant digits."""
    return json.dumps([float(f"{number:.{digits}g}") for number in numbers])
