"""MAGI-1 for `motioncache`: which pipelines are served, with which policies and presets."""

from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from motioncache.config import KVStorage, PolicyConfig
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.forecast.budget import ForecastConfig
from motioncache.parallel import Parallel
from motioncache.policies.none import NoCacheConfig
from motioncache.presets import Policies
from motioncache.registry import PipelineAdapter
from motioncache_magi.cache.flowcache import MagiFlowCacheConfig
from motioncache_magi.cache.hook import MagiHook
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_magi.cache.parallel import ParallelHook, ranks_of, uncached_parallel
from motioncache_magi.cache.teacache import MagiTeaCacheConfig
from motioncache_magi.pipeline import MagiPipeline

POLICIES: Policies = {
    "none": NoCacheConfig,
    "teacache": MagiTeaCacheConfig,
    "flowcache": MagiFlowCacheConfig,
    "motioncache": MagiMotionCacheConfig,
    "forecast": ForecastConfig,
}


class MagiAdapter(PipelineAdapter):
    """How `motioncache` hooks a `MagiPipeline`."""

    name = "magi-1"
    policies: Policies = POLICIES
    pipelines = (MagiPipeline,)
    package = Path(__file__).parents[1]

    def hook(self, pipeline: Any, config: PolicyConfig) -> MagiHook:
        _check_memory(config)
        return MagiHook(pipeline, config, presets=self.presets())

    def hook_parallel(self, pipeline: Any, config: PolicyConfig, parallel: Parallel) -> ParallelHook:
        """Hook the pipeline of one of the processes that sample a video together."""
        _check_memory(config)
        if type(config) not in POLICIES.values():
            raise MotionCacheError(f"parallel={parallel.value}: a {type(config).__name__} runs in one process only")
        return ParallelHook(pipeline, config, presets=self.presets(), ranks=ranks_of(pipeline, parallel))

    def uncached_parallel(self, pipeline: Any, parallel: Parallel) -> AbstractContextManager[None]:
        """Sample without a cache on several processes."""
        return uncached_parallel(pipeline, ranks_of(pipeline, parallel))

    def stream(self, pipeline: Any, *args: Any, **call: Any) -> Generator[Any]:
        return pipeline.stream(*args, **call)


def _check_memory(config: PolicyConfig) -> None:
    """Refuse what does not go together."""
    if config.kv is not KVStorage.model and isinstance(config, MagiFlowCacheConfig) and config.past_chunks is not None:
        raise ConfigError(f"kv={config.kv.value}: past_chunks compresses keys and values as they are; pass kv=model")
