"""Counts what a model call of MAGI-1 asks of its device, with the sampler and the model on meta tensors."""

from dataclasses import replace

import torch

from motioncache.forecast.budget import ForecastConfig
from motioncache_eval.speed import CallCounter, EverySecond, ModelCall, SpeedSettings
from motioncache_magi.cache.config import MagiReuseConfig
from motioncache_magi.loading.variants import released
from motioncache_magi.measure import create_hook, opened
from motioncache_magi.memory import schedule_of
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT


def count_released(name: str, settings: SpeedSettings) -> list[ModelCall]:
    """The model calls of a video of a released variant."""
    config = released(name)
    given = {"video_size_h": settings.height, "video_size_w": settings.width, "num_frames": settings.num_frames}
    runtime = replace(config.runtime, **{key: value for key, value in given.items() if value is not None})
    with torch.device("meta"):
        model = VideoDiT(config.model).set_dtypes().requires_grad_(False)
    return count_video(model, replace(config, runtime=runtime), settings)


def count_video(model: VideoDiT, config: MagiConfig, settings: SpeedSettings) -> list[ModelCall]:
    """The model calls of a video."""
    hook = create_hook(model, config, settings.preset)
    counter = CallCounter(lambda: hook.engine.trace, settings.due)
    schedule = schedule_of(config)
    with opened(model, config, hook) as sampler:
        if isinstance(hook.config, MagiReuseConfig):
            hook.engine.policy = hook.config.create_policy(schedule)
        elif isinstance(hook.config, ForecastConfig):
            hook.engine.policy = EverySecond(hook.config.order_at(None))
        for step in schedule:
            counter(sampler.step, step)
    return counter.calls
