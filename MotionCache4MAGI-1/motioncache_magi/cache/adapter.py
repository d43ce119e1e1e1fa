"""MAGI-1 for `motioncache`: which pipelines are served, with which policies and presets."""

from pathlib import Path
from typing import Any

from motioncache.api import presets_file
from motioncache.presets import ForecastAblationConfig, ForecastConfig, NoCacheConfig, Policies, PolicyConfig
from motioncache_magi.cache.hook import MagiHook
from motioncache_magi.cache.policy import MagiFlowCacheConfig, MagiMotionCacheConfig, MagiTeaCacheConfig
from motioncache_magi.pipeline import MagiPipeline

POLICIES: Policies = {
    "none": NoCacheConfig,
    "teacache": MagiTeaCacheConfig,
    "flowcache": MagiFlowCacheConfig,
    "motioncache": MagiMotionCacheConfig,
    "forecast": ForecastConfig,
    "forecast-ablation": ForecastAblationConfig,
}


class MagiAdapter:
    """How `motioncache` finds out whether a pipeline is one of ours, and hooks it."""

    name = "magi-1"
    policies = POLICIES

    @staticmethod
    def serves(pipeline: object) -> bool:
        return isinstance(pipeline, MagiPipeline)

    @staticmethod
    def presets() -> Path:
        return presets_file(Path(__file__).parents[1])

    @staticmethod
    def hook(pipeline: Any, config: PolicyConfig) -> MagiHook:
        return MagiHook(pipeline, config)
