"""The distance polynomial of each known model, from the table in the presets file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from motioncache.config import plain_values, read_yaml, structured
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.field_types import require_range, require_types, shown
from motioncache.policies.distance import DistanceConfig, require_fit_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomial:
    """A row of the table of distance polynomials.

    Args:
        layers, width: size of the transformer that it was fitted on.
        coefficients: highest power first.
        fit_range: relative changes over which it was fitted.
        source: who fitted it, on what.
    """

    layers: int = 0
    width: int = 0
    coefficients: tuple[float, ...] = ()
    fit_range: tuple[float, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("layers", "width"):
            require_range(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        require_range("coefficients", list(self.coefficients), bool(self.coefficients), "one number or more")
        require_fit_range(self.fit_range)


def model_polynomial(transformer: Any, table: Path, package: str) -> Polynomial:
    """The polynomial that was fitted on a model of this size.

    Args:
        table: the presets file.
        package: the model's package, whose `fit_polynomial` fits one.

    Raises:
        MotionCacheError: if there is none; another model's polynomial would give distances without meaning.
    """
    layers = len(transformer.blocks)
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    rows: Any = plain_values(read_yaml(table), where=str(table)).get("polynomials") or []
    if not isinstance(rows, list):
        raise ConfigError(f"{table}: polynomials has to be a list of rows, not {shown(rows)}")
    for i, row in enumerate(cast("list[Any]", rows)):
        polynomial = structured(Polynomial, row, where=f"{table}: polynomials[{i}]")
        if (polynomial.layers, polynomial.width) == (layers, width):
            return polynomial
    raise MotionCacheError(
        f"there is no distance polynomial for a transformer of {layers} layers and width {width}: fit one with "
        f"`python -m {package}.fit_polynomial MODEL`, and add it under `polynomials:` or pass `coefficients`"
    )


def with_model_polynomial(config: DistanceConfig, transformer: Any, table: Path, package: str) -> Any:
    """The config, with the model's own polynomial unless it brings coefficients."""
    if config.coefficients:
        return config
    polynomial = model_polynomial(transformer, table, package)
    return replace(config, coefficients=polynomial.coefficients, fit_range=config.fit_range or polynomial.fit_range)
