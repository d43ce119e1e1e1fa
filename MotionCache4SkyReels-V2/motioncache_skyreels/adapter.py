"""SkyReels-V2 for `motioncache`: which pipelines are served, with which policies and presets."""

from pathlib import Path
from typing import Any

from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
)

from motioncache.config import PolicyConfig
from motioncache.presets import POLICIES, Policies
from motioncache.registry import presets_file
from motioncache_skyreels.guards import check_transformer
from motioncache_skyreels.hook import SkyReelsHook
from motioncache_skyreels.opening import WindowOpener

PIPELINES = (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
)


class SkyReelsAdapter:
    """How `motioncache` finds out whether a pipeline is one of ours, and hooks it."""

    name = "skyreels-v2"
    policies: Policies = POLICIES

    @staticmethod
    def serves(pipeline: object) -> bool:
        return isinstance(pipeline, PIPELINES)

    @staticmethod
    def presets() -> Path:
        return presets_file(Path(__file__).parent)

    def hook(self, pipeline: Any, config: PolicyConfig) -> SkyReelsHook:
        check_transformer(pipeline.transformer)
        return SkyReelsHook(pipeline, self.opener_of(config)(pipeline, config, self.presets()))

    def opener_of(self, config: PolicyConfig) -> type[WindowOpener]:
        """What opens the windows under a policy."""
        return WindowOpener
