"""What does not change while a video is sampled."""

from dataclasses import dataclass

import torch

from motioncache_magi.model.config import MagiConfig
from motioncache_magi.sampling.guidance import Guidance
from motioncache_magi.sampling.options import AUTOMATIC, MemoryOptions
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What does not change during a video.

    Attributes:
        times: times of the denoise steps, float32 `[steps + 1]`.
        clean_time: time that stands for a clean chunk.
        distilled: whether the model is told the length of a step.
        options: what is traded between memory and time.
    """

    schedule: WindowSchedule
    times: torch.Tensor
    guidance: Guidance
    chunk_frames: int
    clean_time: float
    distilled: bool
    options: MemoryOptions = AUTOMATIC

    @classmethod
    def of(cls, config: MagiConfig, schedule: WindowSchedule, options: MemoryOptions = AUTOMATIC) -> "Settings":
        """The settings of a video of a model."""
        return cls(
            schedule=schedule,
            times=time_schedule(schedule.steps, shortcut_mode=schedule.shortcut_mode),
            guidance=Guidance.of(config),
            chunk_frames=config.runtime.chunk_width,
            clean_time=config.runtime.clean_t,
            distilled=config.engine.distill,
            options=options,
        )
