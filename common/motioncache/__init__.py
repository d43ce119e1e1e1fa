"""MotionCache: training-free acceleration of autoregressive video diffusion (arXiv 2605.01725)."""

from motioncache.api import cached, disable_cache, enable_cache, last_trace, stream, summary, uncached
from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache.policies.none import NoCacheConfig
from motioncache.policies.teacache import TeaCacheConfig
from motioncache.presets import load_config
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
    "stream",
    "summary",
    "uncached",
]
