"""What the settings of a job have to fulfil, whatever the model, and how its YAML file is read."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from motioncache.config import plain_values
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.field_types import require_finite, shown

LONGEST_PATH, LONGEST_PART = 4000, 240
"""Bytes of a path, and of the name of a file or folder: Linux takes 4096 and 255, and temporary files need some."""


def require(name: str, value: object, holds: bool, allowed: str) -> None:
    """Refuse a setting if its condition does not hold.

    Args:
        holds: whether the value is allowed.
        allowed: the allowed values, in words.
    """
    if not holds:
        raise ConfigError(f"{name}: {shown(value)} is not allowed; allowed: {allowed}")


def require_path(name: str, path: str | None) -> None:
    """Refuse a text that no file system takes as a path; none, and an empty one, pass."""
    allowed = f"a path of at most {LONGEST_PATH} bytes, and at most {LONGEST_PART} between two slashes"
    if path:
        require(name, path, path.isprintable() and bool(path.strip()), allowed)
        longest = max(len(part.encode()) for part in path.split("/"))
        require(name, path, len(path.encode()) <= LONGEST_PATH and longest <= LONGEST_PART, allowed)


def require_plain(name: str, value: object) -> None:
    """Refuse what a JSON file cannot hold: keys that are no texts, numbers that are not finite, and other kinds."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            require(name, key, isinstance(key, str) and bool(key.strip()), "keys that are texts")
            require_plain(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            require_plain(name, inner)
    else:
        require_finite(name, value)
        allowed = value is None or isinstance(value, int | float) or is_text(value)
        require(name, value, allowed, "texts, numbers, true, false, null")


def is_text(value: object) -> bool:
    """Whether a value is a text that a file can hold, which half a surrogate pair is not."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def require_prompt(prompt: str) -> None:
    require("prompt", prompt, bool(prompt.strip()), "a sentence that says what the video shows")


def require_seed(seed: int) -> None:
    require("seed", seed, 0 <= seed < 2**63, "0 or more")


def require_device(device: str) -> None:
    """Refuse a name that no device can have; `check_device` finds out whether the machine has the device."""
    kind, _, index = device.partition(":")
    well_formed = kind in ("cpu", "cuda") and (not index or (kind == "cuda" and index.isdigit()))
    require("device", device, well_formed, "cpu, cuda or cuda:N")


def check_device(device: str, cpu_offload: bool) -> None:
    """Refuse a GPU that the machine does not have, and offloading without a GPU."""
    wants_cuda = device.startswith("cuda")
    if wants_cuda and not torch.cuda.is_available():
        raise MotionCacheError(f"device={device}, but this machine offers no CUDA device to PyTorch; pass device=cpu")
    index = int(device.partition(":")[2] or 0)
    if wants_cuda and index >= torch.cuda.device_count():
        raise MotionCacheError(f"device={device}, but there are only {torch.cuda.device_count()} CUDA devices")
    if cpu_offload and not wants_cuda:
        raise MotionCacheError("cpu_offload=true needs a GPU to load parts onto; pass device=cuda or cpu_offload=false")


def read_settings(section: Mapping[str, Any], *, repository: Path, paths: Iterable[str]) -> dict[str, Any]:
    """The settings of a YAML file, or of a section of it, as plain values.

    Args:
        repository: relative paths start here.
        paths: names of the settings that are paths.
    """
    values = plain_values(section, where="settings")
    for key in paths:
        if isinstance(values.get(key), str) and values[key]:
            values[key] = str(repository / values[key])
    return values


def resolve_model(values: dict[str, Any], repository: Path) -> None:
    """Let `model` start at the repository if it is a folder there; otherwise it is a hub id."""
    model = values.get("model")
    if isinstance(model, str):
        require_path("model", model)
        if model and (repository / model).exists():
            values["model"] = str(repository / model)
