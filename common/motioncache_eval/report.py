"""Reports of runs: versions and machine, and JSON files that are either whole or absent."""

import json
import math
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file

PACKAGES = ("motioncache", "torch", "diffusers", "transformers")


def environment(device: str) -> dict[str, dict[str, Any]]:
    """Versions and machine, for reports."""
    return {
        "versions": {package: version(package) for package in PACKAGES} | {"python": platform.python_version()},
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
            "threads": torch.get_num_threads(),
        },
    }


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a report, whole or not at all; enums are written as their values.

    Raises:
        MotionCacheError: for a figure that is NaN or infinite, which JSON cannot hold.
    """
    require_finite_figures(report)
    text = json.dumps(report, indent=1, default=lambda value: value.value, allow_nan=False)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def require_finite_figures(report: Mapping[str, Any]) -> None:
    """Refuse a report in which a figure is NaN or infinite; the error says which one."""
    for name, figure in _figures("", report):
        if not math.isfinite(figure):
            raise MotionCacheError(f"{name} is {figure}: a video or a time that it is made of is no number")


def _figures(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """All floats in nested mappings and lists, each with the way to it, such as `results.slow.psnr_db`."""
    if isinstance(value, float):
        yield name, value
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield from _figures(f"{name}.{key}" if name else str(key), part)
