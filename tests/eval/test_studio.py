"""The studio's videos: chunks as they become clean, a history that is whole, comparisons that tell the truth."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from PIL import Image

from motioncache.errors import MotionCacheError
from motioncache_eval.job_cost import JobCost
from motioncache_eval.studio.commands import as_command, as_python
from motioncache_eval.studio.estimate import Estimate, estimate
from motioncache_eval.studio.history import History
from motioncache_eval.studio.models import Models, Wanted
from motioncache_eval.studio.studio import Studio
from motioncache_eval.video import read_video, write_lossless

from .studio_standin import COST, MODEL, SMALL, follow, make, wanted


def test_a_video_is_kept_with_its_chunks_its_frames_and_its_settings(studio: Studio) -> None:
    steps = list(follow(studio, wanted(studio)))
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


def test_a_stopped_video_keeps_the_chunks_it_has(paused: Studio, pause: threading.Event) -> None:
    entry = ""
    for progress in follow(paused, wanted(paused)):
        entry = progress.entry
        if len(progress.parts) == 2:
            paused.stop("somebody else")
            paused.stop("me")
            pause.set()
    found = paused.history.find(entry)
    assert (found.state, found.report["frames"], len(found.parts)) == ("stopped", 8, 2)


def test_a_video_that_is_made_can_be_followed(paused: Studio, pause: threading.Event) -> None:
    entry = ""
    for progress in follow(paused, wanted(paused)):
        entry = progress.entry
        if len(progress.parts) == 2 and not pause.is_set():
            found = paused.progress(entry)
            assert found is not None
            assert found.parts == progress.parts
            assert paused.history.find(entry).state == "interrupted"  # not whole yet
            with pytest.raises(MotionCacheError, match="is being made: stop it first"):
                paused.remove(entry)
            pause.set()
    assert paused.progress(entry) is None
    paused.remove(entry)
    assert paused.history.entries() == []


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


def test_what_a_video_takes_is_told_from_its_settings_and_from_those_that_were_made(studio: Studio) -> None:
    before = estimate(wanted(studio, "slow"), COST, [])
    assert before == Estimate(whole=6e12, flops=None, seconds=None, memory=10**9)
    entry = studio.history.find(make(studio))
    report = {**entry.report, "seconds": 20.0, "flops": 2e12, "vanilla_flops": 6e12, "preset": "slow"}
    (entry.folder / "video.json").write_text(json.dumps(report))
    entries = studio.history.entries()

    def taken(*args: Any, **wishes: Any) -> tuple[float | None, float | None]:
        found = estimate(wanted(studio, *args, **wishes), COST, entries)
        return found.flops, found.seconds

    assert taken("slow") == (2e12, 20)
    assert taken() == (6e12, pytest.approx(60))  # at the rate of the one that was made
    assert taken("forecast", target_speedup=3) == (2e12, pytest.approx(20))
    assert taken("fast") == (None, None)
    assert taken("slow", num_frames=57) == (2e12, pytest.approx(20))  # a third of what `cost` says
    assert estimate(wanted(studio), None, entries) == Estimate(whole=None, flops=None, seconds=None, memory=None)


def test_the_command_and_the_program_make_the_same_video(studio: Studio) -> None:
    entry = studio.history.find(make(studio, prompt="it's a $HOME"))
    entry.report["config"] |= {"flow_shift": 8.0, "cpu_offload": True}
    command = as_command(entry, studio.models.defaults(MODEL))
    assert "'prompt=it'\"'\"'s a $HOME'" in command
    assert "num_frames=37" in command
    assert command.endswith(" flow_shift=8.0 cpu_offload=true")
    assert "guidance_scale" not in command  # the model's own
    compile(as_python(entry), "program", "exec")
    assert '"it\'s a $HOME"' in as_python(entry)


def test_the_history_is_whole_after_a_kill(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from motioncache_eval.studio.studio import Studio
from tests.eval.studio_standin import StandIn, follow, stand_in_models, wanted
import threading
pause = threading.Event()
models = stand_in_models()
models.load = lambda wanted: StandIn(wanted.job, None if wanted.job.seed else pause)
studio = Studio(models, Path({str(tmp_path / "out")!r}))
list(follow(studio, wanted(studio, seed=1)))
for progress in follow(studio, wanted(studio)):
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
    asked = wanted(studio, "slow", num_inference_steps=14, height=16, width=16)
    steps = list(follow(studio, asked))
    entry = studio.history.find(steps[-1].entry)
    assert (entry.state, len(entry.parts), entry.report["frames"]) == ("complete", 2, 37)
    assert entry.report["vanilla_flops"] > entry.report["flops"] > 0
    assert steps[-1].decisions
    assert [len(row) for row in steps[-1].decisions] == [14, 14]
    assert 0 < entry.report["seconds"] < time.perf_counter() - started
    assert (steps[-1].weighed, entry.report["decisions"]) == ((0, 1), steps[-1].decisions)
    assert studio.models.cost(asked) == JobCost(flops=entry.report["vanilla_flops"], memory=ANY)  # known before


def test_a_video_starts_from_an_image_that_is_kept_beside_it(tmp_path: Path) -> None:
    image, broken = tmp_path / "../odd name.PNG", tmp_path / "broken.png"
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(image)
    broken.write_bytes(b"<html>no image</html>")
    studio = Studio(Models(["magi-1"]), tmp_path / "out")

    def ask(file: Path) -> Wanted:
        small = {"num_frames": 24, "height": 32, "width": 32, "num_inference_steps": 8}
        return studio.models.read("magi-1", "forecast", {"prompt": "a square", "image": str(file), **small})

    with pytest.raises(MotionCacheError, match=r"broken\.png"):
        list(follow(studio, ask(broken)))
    assert studio.history.entries() == []
    last = list(follow(studio, ask(image)))[-1]
    entry = studio.history.find(last.entry)
    kept = entry.folder / "given-image.png"
    assert kept.read_bytes() == image.read_bytes()
    assert entry.report["config"]["image"] == str(kept)
    assert f"image={kept}" in as_command(entry, studio.models.defaults("magi-1"))
    assert last.errors is None or last.errors.count > 0
    assert entry.report["flops"] < entry.report["vanilla_flops"]
