"""Reads golden files and what their manifest says of them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.parity import Tolerance, read_json, read_tensors

FLOAT = Tolerance(name="1e-4 of a standard deviation", deviation=1e-4)


@dataclass(frozen=True)
class Golden:
    """One golden file of a folder with a `manifest.json`."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def about(self) -> dict[str, Any]:
        """The file's entry in the manifest."""
        manifest = read_json(self.path.with_name("manifest.json"))
        if self.name not in manifest:
            raise MotionCacheError(f"{self.path.with_name('manifest.json')} says nothing of {self.path.name}")
        return manifest[self.name]

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return read_tensors(self.path)

    def sibling(self, name: str) -> "Golden":
        """Another file of the same folder, by its name without a suffix."""
        return Golden(self.path.with_name(f"{name}.safetensors"))
