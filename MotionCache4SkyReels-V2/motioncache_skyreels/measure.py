"""Measures what SkyReels-V2 takes of a GPU's memory, with diffusers' own pipeline on meta tensors."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import UMT5Config, UMT5EncoderModel

from motioncache.config import PolicyConfig
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.distance import DistanceConfig
from motioncache_eval.measured_memory import ComputesAll, MeasuredMemory, Stage, measure, size_of
from motioncache_skyreels.hook import SkyReelsHook
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.window import Window

TEXT_ENCODER, TRANSFORMER, AUTOENCODER = "text encoder", "transformer", "autoencoder"


class _Transformer(SkyReelsV2Transformer3DModel):
    """Runs on meta tensors in a pipeline whose latents are on the host, since schedules need their values."""

    def __call__(self, **call: Any) -> Any:
        if not hasattr(self, "_moved"):
            self._moved = WeakTensorKeyDictionary()
        for name in ("hidden_states", "timestep", "encoder_hidden_states"):
            tensor = call[name]
            if tensor not in self._moved:
                self._moved[tensor] = tensor.to("meta")
            call[name] = self._moved[tensor]
        (velocity,) = super().__call__(**call)
        return (torch.zeros(velocity.shape, dtype=velocity.dtype),)


class _Pipeline(SkyReelsV2DiffusionForcingPipeline):
    _execution_device = torch.device("cpu")


class _Opener(WindowOpener):
    """Opens windows in which everything is computed, whatever the policy."""

    def __init__(self, pipeline: Any, config: PolicyConfig, presets: Path) -> None:
        if isinstance(config, DistanceConfig):
            config = replace(config, coefficients=config.coefficients or (0.0,))
        if isinstance(config, ForecastConfig):
            config = replace(config, target_speedup=1.0, calibration=None)
            self._history = config.order
        super().__init__(pipeline, config, presets)

    def open(self, *args: Any, **kwargs: Any) -> Window:
        window = super().open(*args, **kwargs)
        config = self.config
        history = config.order if isinstance(config, ForecastConfig) else self.engine.policy.history
        self.engine.policy = ComputesAll(history)
        return window

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        return Schedule(matrices, chunk_frames=chunk_frames)
