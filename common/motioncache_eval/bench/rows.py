"""The results of a benchmark, a row for each method."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motioncache_eval.bench.config import REFERENCE
from motioncache_eval.bench.results import read_cell

Cell = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All cells of a method.

    Attributes:
        folder: name of the folder of its cells.
        family: methods that one line of the curve joins.
        cells: the cells with a result.
        errors: the error texts of the other cells, by the stem of the cell's file.
    """

    name: str
    folder: str
    family: str
    cells: tuple[Cell, ...]
    errors: Mapping[str, str]

    def mean(self, key: str) -> float | None:
        """Mean over the prompts that have a value."""
        values = self.values(key)
        return statistics.mean(values) if values else None

    def values(self, key: str) -> list[float]:
        """The values of all prompts that have one."""
        return [cell[key] for cell in self.cells if cell.get(key) is not None]


def read_rows(output: Path) -> list[Row]:
    """All methods that have cells: the reference, the others from the dearest to the cheapest, those that raised."""
    rows = [_row(folder) for folder in sorted((output / "cells").glob("*")) if folder.is_dir()]
    return sorted(
        rows, key=lambda row: (row.name != REFERENCE, bool(row.errors), -(row.mean("flops") or 0.0), row.name)
    )


def find_row(rows: list[Row], name: str) -> Row | None:
    """The row of a method; None where it has no cells."""
    return next((row for row in rows if row.name == name), None)


def _row(folder: Path) -> Row:
    cells = {path.stem: read_cell(path) for path in sorted(folder.glob("*.json"))}
    name = next((cell["method"] for cell in cells.values() if "method" in cell), folder.name)
    family = next((cell["family"] for cell in cells.values() if "family" in cell), name)
    return Row(
        name=name,
        folder=folder.name,
        family=family,
        cells=tuple(cell for cell in cells.values() if "error" not in cell),
        errors={stem: cell["error"] for stem, cell in cells.items() if "error" in cell},
    )
