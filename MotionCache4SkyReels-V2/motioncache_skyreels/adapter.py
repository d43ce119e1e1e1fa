"""SkyReels-V2 for `motioncache`: which pipelines are served, with which policies and presets."""

from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
)

from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.parallel import Parallel
from motioncache.presets import POLICIES, Policies
from motioncache.registry import PipelineAdapter
from motioncache_skyreels.foreign import check_transformer
from motioncache_skyreels.hook import SkyReelsHook
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.parallel_hook import ParallelHook, ParallelOpener, ranks_of
from motioncache_skyreels.stream import stream
from motioncache_skyreels.uncached import uncached_parallel


class SkyReelsAdapter(PipelineAdapter):
    """How `motioncache` hooks a diffusion-forcing pipeline."""

    name = "skyreels-v2"
    policies: Policies = POLICIES
    pipelines = (
        SkyReelsV2DiffusionForcingPipeline,
        SkyReelsV2DiffusionForcingVideoToVideoPipeline,
        SkyReelsV2DiffusionForcingImageToVideoPipeline,
    )
    package = Path(__file__).parent

    def hook(self, pipeline: Any, config: PolicyConfig) -> SkyReelsHook:
        check_transformer(pipeline.transformer)
        return SkyReelsHook(pipeline, self.opener_of(config)(pipeline, config, self.presets()))

    def stream(self, pipeline: Any, *args: Any, **call: Any) -> Generator[Any]:
        return stream(pipeline, *args, **call)

    def hook_parallel(self, pipeline: Any, config: PolicyConfig, parallel: Parallel) -> ParallelHook:
        """Hook the pipeline of one of the processes that sample a video together."""
        check_transformer(pipeline.transformer)
        if self.opener_of(config) is not WindowOpener:
            raise MotionCacheError(f"parallel={parallel.value}: a {type(config).__name__} runs in one process only")
        ranks = ranks_of(pipeline, parallel)
        return ParallelHook(pipeline, ParallelOpener(pipeline, config, self.presets(), ranks))

    def uncached_parallel(self, pipeline: Any, parallel: Parallel) -> AbstractContextManager[None]:
        """Sample without a cache on several processes."""
        check_transformer(pipeline.transformer)
        return uncached_parallel(pipeline, ranks_of(pipeline, parallel).world)

    def opener_of(self, config: PolicyConfig) -> type[WindowOpener]:
        """What opens the windows under a policy."""
        return WindowOpener
