"""Compares tensors with golden ones under tolerances, and collects the comparisons of each golden file."""

import argparse
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from motioncache.errors import MotionCacheError
from motioncache_eval.command import run_command


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a golden file."""
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own error types for damaged files
        raise MotionCacheError(f"{path} cannot be read: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The description of a golden file."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise MotionCacheError(f"{path} cannot be read: {error}") from None


@dataclass(frozen=True)
class GoldenFile:
    """One golden file. Where its description is depends on who made it."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return read_tensors(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The error that rounding makes even where two computations are the same.

    It is absolute + relative |golden| for golden values of less than `below`, and nothing for the others.
    """

    absolute: float = 0.0
    relative: float = 0.0
    below: float = math.inf

    def allowed(self, golden: torch.Tensor) -> torch.Tensor:
        size = golden.abs()
        return torch.where(size < self.below, self.absolute + self.relative * size, 0.0)


NO_FLOOR = Floor()

# These two floors stand for the rounding of float32 and for nothing else: golden data of other seeds and shapes differs
# from the same arithmetic by up to that much.
WEIGHT_ROUNDING = Floor(absolute=2e-6)
"""A motion weight divides by the range of a latent frame's scores. Where that is small, it enlarges their rounding."""
DISTANCE_ROUNDING = Floor(relative=2e-5, below=1e-3)
"""A small distance is the difference of two nearly equal signals, which keeps the rounding of the signals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How closely a quantity has to agree: |ours - golden| <= absolute + relative |golden| + deviation std(golden).

    Where that is less than `floor` allows, the floor counts.
    """

    name: str
    absolute: float = 0.0
    relative: float = 0.0
    deviation: float = 0.0
    floor: Floor = NO_FLOOR

    def allowed(self, golden: torch.Tensor) -> torch.Tensor:
        """The largest error of each element."""
        spread = golden.std(correction=0) if self.deviation else 0.0
        own = self.absolute + self.relative * golden.abs() + self.deviation * spread
        return torch.maximum(own, self.floor.allowed(golden))

    def scale(self, golden: torch.Tensor) -> torch.Tensor:
        """The unit in which errors are reported."""
        if self.deviation:
            return golden.std(correction=0).clamp(min=1e-12)
        return golden.abs().clamp(min=1e-12) if self.relative else torch.ones(())


EXACT = Tolerance(name="exact")
"""Masks, counts and schedules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One quantity and its largest error, in units of the tolerance's scale."""

    name: str
    tolerance: Tolerance
    error: float
    mismatches: int
    elements: int

    @property
    def passed(self) -> bool:
        return self.mismatches == 0

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "FAIL"
        detail = "equal where it has to be" if self.tolerance is EXACT else f"largest error {self.error:.2e}"
        return (
            f"  {verdict} {self.name:32s} {detail}, {self.mismatches} of {self.elements} outside {self.tolerance.name}"
        )


@dataclass(slots=True)
class FileReport:
    """All comparisons of one golden file."""

    name: str
    comparisons: list[Comparison] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    def compare(self, name: str, ours: torch.Tensor, golden: torch.Tensor, tolerance: Tolerance) -> None:
        """Add a comparison; a wrong shape or a NaN counts as a mismatch of every element."""
        if ours.shape != golden.shape:
            self._add(
                f"{name}: shape {tuple(ours.shape)}, golden {tuple(golden.shape)}", tolerance, float("inf"), golden
            )
            return
        ours, golden = ours.double(), golden.double()
        difference = (ours - golden).abs()
        outside = int((~(difference <= tolerance.allowed(golden))).sum())
        error = float((difference / tolerance.scale(golden)).max()) if golden.numel() else 0.0
        self._add(name, tolerance, error, golden, outside)

    def check(self, name: str, ours: object, golden: object) -> None:
        """Add a comparison of two values that have to be equal."""
        equal = ours == golden
        self._add(name if equal else f"{name}: {ours}, golden {golden}", EXACT, 0.0, torch.ones(1), 0 if equal else 1)

    def _add(
        self, name: str, tolerance: Tolerance, error: float, golden: torch.Tensor, mismatches: int | None = None
    ) -> None:
        elements = golden.numel()
        outside = elements if mismatches is None else mismatches
        self.comparisons.append(
            Comparison(name=name, tolerance=tolerance, error=error, mismatches=outside, elements=elements)
        )

    def __str__(self) -> str:
        lines = [f"{'ok  ' if self.passed else 'FAIL'} {self.name}"]
        return "\n".join(lines + [str(comparison) for comparison in self.comparisons])


def parity_command(
    prog: str, doc: str | None, check_folder: Callable[[Path], Iterable[FileReport]], arguments: list[str] | None
) -> int:
    """Command line that checks a folder; its exit status is 1 if a file exceeds its tolerances."""
    parser = argparse.ArgumentParser(prog=prog, description=doc)
    parser.add_argument("folder", type=Path, help="folder of golden files")
    folder = parser.parse_args(arguments).folder
    return run_command(lambda: _print_reports(check_folder(folder)))


def _print_reports(reports: Iterable[FileReport]) -> int:
    torch.set_num_threads(1)
    failed = 0
    for report in reports:
        print(report, flush=True)
        failed += not report.passed
    print(f"{failed} files over their tolerances" if failed else "all golden files agree")
    return 1 if failed else 0
