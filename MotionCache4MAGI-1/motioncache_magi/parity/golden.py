"""Reads golden files and what their manifest says of them."""

from dataclasses import replace
from functools import cached_property
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache_eval.parity import DISTANCE_ROUNDING, WEIGHT_ROUNDING, GoldenFile, Tolerance, read_json

FLOAT = Tolerance(name="1e-4 of a standard deviation", deviation=1e-4)
WEIGHTS = replace(FLOAT, floor=WEIGHT_ROUNDING)
DISTANCES = replace(FLOAT, floor=DISTANCE_ROUNDING)


class Golden(GoldenFile):
    """One golden file of a folder with a `manifest.json`."""

    @cached_property
    def about(self) -> dict[str, Any]:
        """The file's entry in the manifest."""
        manifest = read_json(self.path.with_name("manifest.json"))
        if self.name not in manifest:
            raise MotionCacheError(f"{self.path.with_name('manifest.json')} says nothing of {self.path.name}")
        return manifest[self.name]

    def sibling(self, name: str) -> "Golden":
        """Another file of the same folder, by its name without a suffix."""
        return Golden(self.path.with_name(f"{name}.safetensors"))
