"""MotionCache: training-free acceleration of autoregressive video diffusion (arXiv 2605.01725)."""

from motioncache.api import cached, disable_cache, enable_cache, last_trace, summary
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.presets import (
    ForecastConfig,
    MotionCacheConfig,
    NoCacheConfig,
    PolicyConfig,
    TeaCacheConfig,
    load_config,
)
from motioncache.summary import ChunkSummary, Summary

__all__ = [
    "ChunkSummary",
    "ConfigError",
    "ForecastConfig",
    "MotionCacheConfig",
    "MotionCacheError",
    "NoCacheConfig",
    "PolicyConfig",
    "Summary",
    "TeaCacheConfig",
    "cached",
    "disable_cache",
    "enable_cache",
    "last_trace",
    "load_config",
    "summary",
]
