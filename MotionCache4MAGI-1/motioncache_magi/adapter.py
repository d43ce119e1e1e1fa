"""MAGI-1 for `motioncache`: which pipelines are served, with which policies and presets."""

from pathlib import Path
from typing import Any

from motioncache.config import NoCacheConfig, Policies, PolicyConfig
from motioncache_magi.hook import MagiHook
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.policy import MagiMotionCacheConfig

POLICIES: Policies = {"none": NoCacheConfig, "motioncache": MagiMotionCacheConfig}


class MagiAdapter:
    """How `motioncache` finds out whether a pipeline is one of ours, and hooks it."""

    name = "magi-1"
    policies = POLICIES

    @staticmethod
    def serves(pipeline: object) -> bool:
        return isinstance(pipeline, MagiPipeline)

    @staticmethod
    def presets() -> Path:
        """The YAML file of this model's presets, beside the package in the repository and inside it in a wheel."""
        package = Path(__file__).parent
        inside = package / "addconfig" / "config.yaml"
        return inside if inside.is_file() else package.parent / "addconfig" / "config.yaml"

    @staticmethod
    def hook(pipeline: Any, config: PolicyConfig) -> MagiHook:
        return MagiHook(pipeline, config)
