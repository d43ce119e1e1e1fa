"""The settings that the videos of a folder were made with, so that a folder holds videos of one kind."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from motioncache.config import PolicyConfig, plain_values, read_text, read_yaml
from motioncache.errors import MotionCacheError
from motioncache.field_types import shown
from motioncache.forecast.budget import AUTO, ForecastConfig, shipped_calibration
from motioncache_eval.kept_settings import Record, read_record
from motioncache_eval.report import PACKAGES, write_json

_WEIGHTS = {".json", ".safetensors", ".bin", ".pt", ".pth", ".model", ".npz"}
"""Suffixes of the files that a model is read from."""

_PIECES, _PIECE = 64, 4096
"""A large file is sampled in so many places, so many bytes each."""


def fingerprint(folder: Path) -> str:
    """A hash of a model's files that takes no reading of all weights: names, sizes, and bytes from all over them."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _WEIGHTS and path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _PIECES * _PIECE:
                digest.update(file.read())
                continue
            for piece in range(_PIECES):
                file.seek((size - _PIECE) * piece // (_PIECES - 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest()[:16]


def describe_policy(policy: PolicyConfig, presets: Path) -> Record:
    """A policy's fields, with hashes for what it takes from files.

    Args:
        presets: the model's presets file.
    """
    fields: Record = {"name": type(policy).__name__, **asdict(cast("Any", policy))}
    if isinstance(policy, ForecastConfig) and policy.calibration != AUTO:
        path = Path(policy.calibration) if policy.calibration else shipped_calibration(presets)
        fields["calibration"] = _hash(read_text(path, missing=f"there is no calibration {path}"))
    if fields.get("coefficients") == ():
        table = plain_values(read_yaml(presets), where=str(presets)).get("polynomials")
        fields["coefficients"] = f"those of the model, of the table {_hash(json.dumps(table))}"
    return fields


def installed_versions() -> dict[str, str]:
    """The versions of the packages that decide what a video looks like."""
    return {package: version(package) for package in PACKAGES}


def keep_prompts(path: Path, prompts: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse other prompts for names that are recorded; record those of the other names.

    Args:
        prompts: by suite and short prompt, the prompt that is sampled.
    """
    recorded = read_record(path) or {}
    for suite, by_name in prompts.items():
        known = recorded.setdefault(suite, {})
        for name, prompt in by_name.items():
            before = known.setdefault(name, prompt) if isinstance(known, dict) else None
            if before != prompt:
                raise MotionCacheError(
                    f"the videos in {path.parent} were made with other prompts: for {shown(name)} in {suite} it was "
                    f"{shown(before)}, now {shown(prompt)}; pass another output="
                )
    write_json(path, recorded)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
