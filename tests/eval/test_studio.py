"""The studio's videos: chunks as they become clean, a history that is whole, comparisons that tell the truth."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.studio.commands import as_command, as_python
from motioncache_eval.studio.estimate import estimate
from motioncache_eval.studio.history import History
from motioncache_eval.studio.models import Models, Wanted
from motioncache_eval.studio.studio import Studio
from motioncache_eval.video import read_video, write_lossless

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


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    models = Models([MODEL])
    monkeypatch.setattr(models, "load", lambda wanted: StandIn(wanted.job))
    return Studio(models, tmp_path / "out")


def wanted(studio: Studio, preset: str = "vanilla", **wishes: Any) -> Wanted:
    return studio.models.read(MODEL, preset, {**SMALL, **wishes})


def make(studio: Studio, **wishes: Any) -> str:
    return list(studio.make("me", wanted(studio, **wishes)))[-1].entry


def test_a_video_is_kept_with_its_chunks_its_frames_and_its_settings(studio: Studio) -> None:
    steps = list(studio.make("me", wanted(studio)))
    entry = studio.history.find(steps[-1].entry)
    assert [len(step.parts) for step in steps if step.finished is None][-1] == 3
    assert (entry.state, entry.parts) == ("complete", tuple(f"part-{i:03d}.mp4" for i in range(3)))
    assert (entry.report["prompt"], entry.report["frames"]) == (SMALL["prompt"], 12)
    assert len(read_video(entry.folder / "video.mp4")) == len(entry.frames()) == 12
    assert steps[-1].finished == entry.folder
    page = (entry.folder / "page.html").read_text()
    assert "<b>square" not in page
    assert "&lt;b&gt;square" in page


def test_frames_are_kept_as_they_were_made(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    write_lossless(tmp_path / "frames.mkv", frames, fps=24)
    assert np.array_equal(read_video(tmp_path / "frames.mkv"), frames)


def test_the_same_seed_is_identical_and_another_is_not(studio: Studio) -> None:
    first, same, other = make(studio), make(studio), make(studio, seed=1)
    assert studio.compare(first, same).distance == "The frames are identical."
    found = studio.compare(first, other)
    assert "PSNR 7" in found.distance  # of two uniform noises: 10 log10(6) = 7.8
    assert (studio.history.output / "comparisons" / found.page).is_file()


@pytest.mark.parametrize("wrong", ["../secrets", "/etc/passwd", "nothing", "", "comparisons"])
def test_a_name_is_never_a_path(studio: Studio, wrong: str) -> None:
    first = make(studio)
    with pytest.raises(MotionCacheError, match="there is no video"):
        studio.compare(first, wrong)


def test_a_video_is_not_compared_with_itself_or_with_one_of_another_size(studio: Studio) -> None:
    first, small = make(studio), make(studio, height=16)
    with pytest.raises(MotionCacheError, match="two different videos"):
        studio.compare(first, first)
    with pytest.raises(MotionCacheError, match="12 frames of 32x32 and 12 frames of 32x16"):
        studio.compare(first, small)


def test_a_stopped_video_keeps_the_chunks_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pause, models = threading.Event(), Models([MODEL])
    monkeypatch.setattr(models, "load", lambda wanted: StandIn(wanted.job, pause))
    studio = Studio(models, tmp_path / "out")
    entry = ""
    for progress in studio.make("me", wanted(studio)):
        entry = progress.entry
        if len(progress.parts) == 2:
            studio.stop("somebody else")
            studio.stop("me")
            pause.set()
    found = studio.history.find(entry)
    assert (found.state, found.report["frames"], len(found.parts)) == ("stopped", 8, 2)


def test_a_video_that_is_made_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pause, models = threading.Event(), Models([MODEL])
    monkeypatch.setattr(models, "load", lambda wanted: StandIn(wanted.job, pause))
    studio = Studio(models, tmp_path / "out")
    entry = ""
    for progress in studio.make("me", wanted(studio)):
        entry = progress.entry
        if len(progress.parts) == 2:
            assert studio.progress(entry) == progress
            assert studio.history.find(entry).state == "interrupted"  # not whole yet
            pause.set()
    assert studio.progress(entry) is None


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"num_frames": 38}, "num_frames: 38 is not allowed"),
        ({"height": 10**9}, "height"),
        ({"prompt": " "}, "prompt: ' ' is not allowed"),
        ({"seed": -1}, "seed: -1 is not allowed"),
        ({"image": "x.png"}, "skyreels-v2 takes no image"),
        ({"device": "cuda"}, "skyreels-v2 takes no device"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_loaded(
    studio: Studio, wishes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MotionCacheError, match=message):
        wanted(studio, **wishes)
    assert studio.history.entries() == []


def test_a_model_and_a_preset_have_to_be_among_those_that_are_offered(studio: Studio) -> None:
    with pytest.raises(MotionCacheError, match="not started with the model '/etc'; it has: skyreels-v2"):
        studio.models.read("/etc", "slow", SMALL)
    with pytest.raises(MotionCacheError, match=r"preset: '/etc/passwd.yaml' is not allowed"):
        studio.models.read(MODEL, "/etc/passwd.yaml", SMALL)


def test_a_prompt_is_data(studio: Studio) -> None:
    prompt = "model=/etc preset=fast\n${oc.env:HOME} [[SCRIPT]] </script>"
    entry = studio.history.find(make(studio, prompt=prompt))
    assert (entry.report["prompt"], entry.report["config"]["model"]) == (prompt, wanted(studio).job.model)
    page = (entry.folder / "page.html").read_text()
    assert page.count("</script>") == 2  # those of the page itself


def test_what_a_video_takes_is_told_from_those_that_were_made(studio: Studio) -> None:
    assert "known after the first video" in estimate(wanted(studio), studio.history.entries())
    entry = studio.history.find(make(studio))
    report = {**entry.report, "seconds": 20.0, "flops": 2e12, "vanilla_flops": 6e12, "preset": "slow"}
    (entry.folder / "video.json").write_text(json.dumps(report))
    entries = studio.history.entries()
    assert estimate(wanted(studio, "slow"), entries) == "It takes about 2 TFLOPs, about 20 s on this machine."
    assert estimate(wanted(studio), entries) == "It takes about 6 TFLOPs, about 60 s on this machine."
    three = wanted(studio, "forecast", target_speedup=3)
    assert estimate(three, entries) == "It takes about 2 TFLOPs, about 20 s on this machine."
    longer = wanted(studio, "slow", num_frames=57)
    assert "known after the first video" in estimate(longer, entries)


def test_the_command_and_the_program_make_the_same_video(studio: Studio) -> None:
    entry = studio.history.find(make(studio, prompt="it's a $HOME"))
    assert "'prompt=it'\"'\"'s a $HOME'" in as_command(entry)
    assert "num_frames=37" in as_command(entry)
    compile(as_python(entry), "program", "exec")
    assert '"it\'s a $HOME"' in as_python(entry)


def test_the_history_is_whole_after_a_kill(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from motioncache_eval.studio.models import Models
from motioncache_eval.studio.studio import Studio
from tests.eval.test_studio import StandIn, wanted
import threading
models = Models(["{MODEL}"])
pause = threading.Event()
models.load = lambda wanted: StandIn(wanted.job, None if wanted.job.seed else pause)
studio = Studio(models, Path({str(tmp_path / "out")!r}))
list(studio.make("me", wanted(studio, seed=1)))
for progress in studio.make("me", wanted(studio)):
    if len(progress.parts) == 2:
        print("two", flush=True)
"""
    here = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=here)
    assert process.stdout is not None
    assert process.stdout.readline() == "two\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    history = History(tmp_path / "out")
    found = sorted((entry.state, len(entry.parts)) for entry in history.entries())
    assert found == [("complete", 3), ("interrupted", 2)]
    interrupted = next(entry for entry in history.entries() if entry.state == "interrupted")
    assert len(read_video(interrupted.folder / interrupted.parts[1])) == 4
    history.remove(interrupted.name)
    assert len(history.entries()) == 1


def test_the_shipped_model_is_streamed_with_a_cache(tmp_path: Path) -> None:
    studio = Studio(Models([MODEL], ["causal_block_size=5"]), tmp_path / "out")
    started = time.perf_counter()
    steps = list(studio.make("me", wanted(studio, "slow", num_inference_steps=3, height=16, width=16)))
    entry = studio.history.find(steps[-1].entry)
    assert (entry.state, len(entry.parts), entry.report["frames"]) == ("complete", 2, 37)
    assert entry.report["vanilla_flops"] > entry.report["flops"] > 0
    assert steps[-1].decisions
    assert [len(row) for row in steps[-1].decisions] == [3, 3]
    assert 0 < entry.report["seconds"] < time.perf_counter() - started
