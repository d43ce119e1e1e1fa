"""Reports of runs: versions and machine, and JSON files that are either whole or absent."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

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
    """Write a report, whole or not at all; enums are written as their values."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1, default=lambda value: value.value) + "\n")
    temporary.replace(path)
