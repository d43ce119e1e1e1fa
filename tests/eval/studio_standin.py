"""A stand-in for the studio's models, and how the tests ask for videos."""

import threading
from collections.abc import Iterator
from typing import Any

import torch

from motioncache_eval.job_cost import JobCost
from motioncache_eval.studio.making import Progress
from motioncache_eval.studio.models import Models, Wanted
from motioncache_eval.studio.studio import Studio

MODEL = "skyreels-v2"
SMALL = {"num_frames": 37, "height": 32, "width": 32, "num_inference_steps": 2, "prompt": "a red <b>square</b>"}


class StandIn:
    """A loaded job whose chunks are noise of a seed; it takes no time and no cache."""

    branch = "cond"
    adapter = None

    def __init__(self, job: Any, pause: threading.Event | None = None) -> None:
        self.job = job
        self.pipeline = self
        self._pause = pause

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def stream(self, _: Any, job: Any, step_done: Any) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(job.seed)
        for chunk in range(3):
            if chunk == 2 and self._pause is not None:
                assert self._pause.wait(60)
            step_done((chunk + 1) / 3)
            yield torch.rand(4, 3, job.height, job.width, generator=generator)


COST = JobCost(flops=6 * 10**12, memory=10**9)


def stand_in_models(pause: threading.Event | None = None) -> Models:
    """Models that load nothing; with `pause`, the last chunk waits for it."""
    models: Any = Models([MODEL])
    models.load = lambda wanted: StandIn(wanted.job, pause)
    models.cost = lambda _: COST
    return models


def wanted(studio: Studio, preset: str = "vanilla", **wishes: Any) -> Wanted:
    return studio.models.read(MODEL, preset, {**SMALL, **wishes})


def follow(studio: Studio, asked: Wanted, who: str = "me") -> Iterator[Progress]:
    return (told for told in studio.make(who, asked) if isinstance(told, Progress))


def make(studio: Studio, **wishes: Any) -> str:
    return list(follow(studio, wanted(studio, **wishes)))[-1].entry
