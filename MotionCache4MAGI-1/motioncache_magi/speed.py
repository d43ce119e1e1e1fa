"""Counts what a model call of MAGI-1 asks of its device, with the sampler and the model on meta tensors."""

from collections.abc import Sequence
from dataclasses import replace

from motioncache.decision import Call, Decision
from motioncache.engine import Engine
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.none import NoCache
from motioncache.record import Phase
from motioncache_eval.measured_memory import MemorySettings
from motioncache_eval.speed import CallCounter, EverySecond, ModelCall, SpeedSettings
from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step
from motioncache_magi.weightless import configured, create_transformer, open_video


def count_released(name: str, settings: SpeedSettings) -> list[ModelCall]:
    """The model calls of a released variant, in which every phase of its presets is reached that its steps reach."""
    config = configured(released(name), _sizes(settings))
    return count_steps(create_transformer(config), config, settings)


def count_steps(model: VideoDiT, config: MagiConfig, settings: SpeedSettings) -> list[ModelCall]:
    """Some steps of every stage, until the window slides; each is a model call for all branches of guidance."""
    video = open_video(model, config, _sizes(settings), create_engine=lambda: _WholeChunks(NoCache()))
    engine = video.hook.engine
    if isinstance(video.hook.config, ForecastConfig):
        engine.policy = EverySecond(video.history)
    counter = CallCounter(lambda: engine.trace, settings.due, model.rope.bands.device.type)
    for step in _chosen(video.schedule):
        counter(video.sampler.step, step)
    video.close()
    return counter.calls


def _sizes(settings: SpeedSettings) -> MemorySettings:
    return MemorySettings(
        height=settings.height, width=settings.width, num_frames=settings.num_frames, preset=settings.preset
    )


def _chosen(schedule: WindowSchedule) -> list[Step]:
    """The first two steps of every stage, its last one, and those between at which a phase may begin."""
    within = {0, 1, schedule.stage // 3, 2 * schedule.stage // 3, schedule.stage - 1}
    stages = (schedule.window + 1) * schedule.stage
    return [step for step in schedule if step.index < stages and step.index % schedule.stage in within]


class _WholeChunks(Engine):
    """Computes every chunk of a chunk phase: its mask, of which a share is made up on meta tensors, knows no shares."""

    def decide(self, calls: Sequence[Call]) -> list[Decision]:
        return [
            replace(decision, due=True, rows=None) if decision.phase is Phase.chunk else decision
            for decision in super().decide(calls)
        ]
