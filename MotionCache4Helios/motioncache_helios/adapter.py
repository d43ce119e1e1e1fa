"""Helios for `motioncache`: which pipelines are served, with which policies and presets."""

from pathlib import Path
from typing import Any

from diffusers import HeliosPipeline, HeliosPyramidPipeline

from motioncache.config import KVStorage, PolicyConfig
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.presets import POLICIES, Policies
from motioncache.registry import PipelineAdapter
from motioncache_helios.foreign import check_transformer
from motioncache_helios.hook import HeliosHook
from motioncache_helios.opening import WindowOpener


class HeliosAdapter(PipelineAdapter):
    """How `motioncache` hooks a Helios pipeline."""

    name = "helios"
    policies: Policies = POLICIES
    pipelines = (HeliosPipeline, HeliosPyramidPipeline)
    package = Path(__file__).parent

    def hook(self, pipeline: Any, config: PolicyConfig) -> HeliosHook:
        if isinstance(pipeline, HeliosPyramidPipeline):
            raise MotionCacheError(
                "a HeliosPyramidPipeline (Helios-Mid, Helios-Distilled) samples every chunk at three resolutions, "
                "which the cache does not follow; use Helios-Base with a HeliosPipeline"
            )
        if config.kv is not KVStorage.model:
            raise ConfigError(f"kv: {config.kv.value} is of SkyReels-V2; Helios keeps keys and values as they are")
        if config.split_guidance:
            raise ConfigError(
                "split_guidance: the CFG branches of Helios are computed one after another anyway; leave it out"
            )
        check_transformer(pipeline.transformer)
        return HeliosHook(pipeline, WindowOpener(pipeline, config, self.presets()))
