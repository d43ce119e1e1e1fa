"""The studio's line: who waits, who is made where, and what is left of what goes wrong."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.studio.config import StudioConfig
from motioncache_eval.studio.devices import devices_of
from motioncache_eval.studio.line import Waiting
from motioncache_eval.studio.making import Progress
from motioncache_eval.studio.models import Wanted
from motioncache_eval.studio.studio import Studio

from .studio_standin import StandIn, follow, make, stand_in_models, wanted


def begun(studio: Studio, who: str, **wishes: Any) -> Iterator[Progress]:
    """A video of somebody, with two of its chunks made."""
    telling = follow(studio, wanted(studio, **wishes), who)
    while len(next(telling).parts) < 2:
        pass
    return telling


def test_videos_wait_in_a_line_that_has_an_end(paused: Studio, pause: threading.Event) -> None:
    first = begun(paused, "me")
    second, third = (paused.make(who, wanted(paused, seed=1)) for who in ("you", "she"))
    assert next(second) == Waiting(before=1)
    assert next(third) == Waiting(before=2)
    with pytest.raises(MotionCacheError, match="2 videos wait already, and no more may: try again"):
        next(paused.make("he", wanted(paused)))
    paused.stop("you")
    with pytest.raises(MotionCacheError, match="stopped before it began"):
        list(second)
    pause.set()
    assert list(first)[-1].finished
    assert isinstance(told := list(third)[-1], Progress)
    assert told.finished
    assert len(paused.history.entries()) == 2


def test_a_video_goes_on_when_nobody_looks_and_one_that_waits_gives_up_its_place(
    paused: Studio, pause: threading.Event
) -> None:
    first = begun(paused, "me")
    second = paused.make("me", wanted(paused))
    assert next(second) == Waiting(before=1)
    first.close()  # pyright: ignore[reportAttributeAccessIssue]
    second.close()  # pyright: ignore[reportAttributeAccessIssue]
    pause.set()
    deadline = time.monotonic() + 60
    while [entry.state for entry in paused.history.entries()] != ["complete"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_device_makes_a_video_at_a_time(tmp_path: Path, pause: threading.Event) -> None:
    devices: list[str] = []
    models: Any = stand_in_models(pause)

    def load(wanted: Wanted) -> StandIn:
        devices.append(wanted.job.device)
        return StandIn(replace(wanted.job, device="cpu"), pause)

    models.load = load
    studio = Studio(models, tmp_path / "out", devices=("cuda:0", "cuda:1"))
    tellings = [begun(studio, "me", seed=seed) for seed in (0, 1)]  # both are being made
    pause.set()
    assert all(list(telling)[-1].finished for telling in tellings)
    assert sorted(devices) == ["cuda:0", "cuda:1"]


def test_the_devices_are_those_that_are_named_or_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_of(StudioConfig()) == (None,)
    with pytest.raises(MotionCacheError, match="device: 'tpu' is not allowed"):
        devices_of(StudioConfig(devices=("tpu",)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of(StudioConfig(settings=("device=cuda",))) == ("cuda:0", "cuda:1")
    assert devices_of(StudioConfig(settings=("device=cuda",), devices=("cuda:1",))) == ("cuda:1",)


def test_what_fails_or_is_stopped_before_its_first_chunk_leaves_nothing(studio: Studio) -> None:
    models: Any = studio.models
    broken = StandIn(wanted(studio).job)
    broken.stream = lambda *_: (_ for _ in ()).throw(MotionCacheError("no luck"))  # pyright: ignore
    models.load = lambda _: broken
    with pytest.raises(MotionCacheError, match=r"^no luck$"):
        make(studio)
    assert list(studio.history.output.iterdir()) == []
    models.load = lambda wanted: StandIn(wanted.job)
    assert studio.history.find(make(studio)).state == "complete"  # the next one is made
