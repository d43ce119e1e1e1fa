"""Counts what a model call of SkyReels-V2 asks of its device, with diffusers' own pipeline on meta tensors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.forecast.budget import ForecastConfig
from motioncache.foreign import Onlooker
from motioncache.policies.distance import DistanceConfig
from motioncache.registry import resolve_preset
from motioncache_eval.speed import CallCounter, EverySecond, ModelCall, SpeedSettings
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.hook import SkyReelsHook
from motioncache_skyreels.measure import (
    CHUNK_FRAMES,
    WeightlessOpener,
    check_window,
    create_autoencoder,
    create_transformer,
    host_pipeline,
)
from motioncache_skyreels.memory import RELEASED, TEXT_LENGTH
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.window import Window

STEPS = 16
"""Denoise steps of every chunk, so many that every phase of the presets is reached."""


def count_released(name: str, settings: SpeedSettings) -> list[ModelCall]:
    """The model calls of one window of a released model, with guidance."""
    sizes, (height, width) = RELEASED[name]
    height, width, frames = settings.height or height, settings.width or width, settings.num_frames or 97
    check_window(frames)
    transformer = create_transformer(sizes, torch.bfloat16)
    return count_window(transformer, replace(settings, height=height, width=width, num_frames=frames))


def count_window(transformer: SkyReelsV2Transformer3DModel, settings: SpeedSettings) -> list[ModelCall]:
    """The model calls of one window whose chunks all denoise at once."""
    pipeline = host_pipeline(transformer, create_autoencoder())
    adapter = SkyReelsAdapter()
    policy = resolve_preset(adapter, settings.preset, allow_foreign_calibration=True)
    hook = SkyReelsHook(pipeline, _Opener(pipeline, policy, adapter.presets()))
    counter = CallCounter(lambda: hook.engine.trace, settings.due)
    original: Any = transformer.forward
    transformer.forward = Onlooker(original, counter)
    text = torch.zeros(1, TEXT_LENGTH, transformer.config.text_dim, dtype=transformer.dtype)
    try:
        pipeline(
            None,
            prompt_embeds=text,
            negative_prompt_embeds=text.clone(),
            height=settings.height,
            width=settings.width,
            num_frames=settings.num_frames,
            base_num_frames=settings.num_frames,
            ar_step=0,
            causal_block_size=CHUNK_FRAMES,
            num_inference_steps=STEPS,
            output_type="latent",
        )
    finally:
        transformer.forward = original
        hook.undo()
    return counter.calls


class _Opener(WeightlessOpener):
    """Opens windows in which every step of the chunk phase is due, and every second iteration of a plan."""

    def open(self, *args: Any, **kwargs: Any) -> Window:
        window = super().open(*args, **kwargs)
        if isinstance(self.config, ForecastConfig):
            self.engine.policy = EverySecond(self.config.order_at(None))
        return window

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        if not isinstance(self.config, DistanceConfig):
            return Schedule(matrices, chunk_frames=chunk_frames)
        threshold = self.config.threshold
        return Schedule(matrices, chunk_frames=chunk_frames, distance=lambda *_: threshold)
