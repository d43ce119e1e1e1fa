"""Helios for `motioncache`: which pipelines are served, with which policies and presets."""

from pathlib import Path
from typing import Any

from diffusers import HeliosPipeline, HeliosPyramidPipeline

from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
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
        check_transformer(pipeline.transformer)
        return HeliosHook(pipeline, WindowOpener(pipeline, config, self.presets()))
