"""Sampling for VBench: names, resuming, bad input."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from motioncache.errors import ConfigError
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION, Video, file_name, list_videos, suites_of
from motioncache_eval.video import read_video
from motioncache_skyreels.vbench.__main__ import main, video_seed

from .conftest import SMALL

CONFIG = str(Path(__file__).parents[2] / "MotionCache4SkyReels-V2" / "addconfig" / "config.yaml")


def full_info(folder: Path) -> Path:
    path = folder / "VBench_full_info.json"
    entries = [
        {"prompt_en": "a red circle. resting", "dimension": ["subject_consistency", "motion_smoothness"]},
        {"prompt_en": "a blue square", "dimension": ["subject_consistency"]},
        {"prompt_en": "a teal background", "dimension": ["scene", "background_consistency"]},
    ]
    path.write_text(json.dumps(entries))
    return path


def test_dimensions_share_the_suites_that_vbench_scores_them_on() -> None:
    assert suites_of(["motion_smoothness", "dynamic_degree", "scene"]) == ["subject_consistency", "scene"]
    assert len(SUITE_OF_DIMENSION) == 16
    assert len(set(SUITE_OF_DIMENSION.values())) == 11


def test_names_hold_the_prompt_to_the_letter() -> None:
    assert file_name("A dog. Running, façades", 3) == "A dog. Running, façades-3.mp4"
    for bad in ("a/b", "x" * 260):
        with pytest.raises(ConfigError, match="cannot be a file name"):
            file_name(bad, 0)


def test_prompts_come_from_vbenchs_list_in_its_order(tmp_path: Path) -> None:
    videos = list_videos(["subject_consistency"], samples=2, full_info=full_info(tmp_path), short=None, long=None)
    assert [video.name for video in videos] == [
        "a red circle. resting-0.mp4",
        "a red circle. resting-1.mp4",
        "a blue square-0.mp4",
        "a blue square-1.mp4",
    ]


def test_long_prompts_are_sampled_under_the_names_of_the_short_ones(tmp_path: Path) -> None:
    (tmp_path / "scene.txt").write_text("alley\nbeach\n")
    (tmp_path / "scene_longer.txt").write_text("A narrow alley at dawn.\nA wide beach in the wind.\n")
    videos = list_videos(["scene"], samples=1, full_info=None, short=tmp_path, long=tmp_path)
    assert [(video.name, video.prompt) for video in videos] == [
        ("alley-0.mp4", "A narrow alley at dawn."),
        ("beach-0.mp4", "A wide beach in the wind."),
    ]
    (tmp_path / "scene_longer.txt").write_text("one\n")
    with pytest.raises(ConfigError, match="2 short prompts, but 1 long ones"):
        list_videos(["scene"], samples=1, full_info=None, short=tmp_path, long=tmp_path)


def test_seeds_depend_on_the_video_alone() -> None:
    video = Video(suite="scene", name="alley-0.mp4", short="alley", prompt="alley", index=0)
    other = Video(suite="scene", name="alley-1.mp4", short="alley", prompt="alley", index=1)
    assert video_seed(0, video) == video_seed(0, video)
    assert len({video_seed(0, video), video_seed(1, video), video_seed(0, other)}) == 3


@pytest.fixture
def arguments(model_folder: Path, tmp_path: Path) -> list[str]:
    """A run that makes two videos of a small model."""
    return [
        CONFIG, *SMALL, f"model={model_folder}", "preset=exact", f"full_info={full_info(tmp_path)}",
        f"output={tmp_path / 'out'}", "devices=[cpu,cpu]",
    ]  # fmt: skip


def test_sampling_makes_what_is_missing_or_cut_short_and_keeps_the_rest(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    circle, square = (tmp_path / "out" / "videos" / "subject_consistency" / name for name in NAMES)
    assert read_video(circle).shape == (37, 16, 32, 3)
    assert list((tmp_path / "out" / "partial").iterdir()) == []
    kept, content = circle.stat().st_mtime_ns, square.read_bytes()
    square.write_bytes(content[:200])
    capsys.readouterr()
    assert main([*arguments, "devices=[cpu]"]) == 0
    assert "2 videos of 1 suites, 1 to sample" in capsys.readouterr().out
    assert sorted(path.name for path in circle.parent.iterdir()) == sorted(NAMES)
    assert circle.stat().st_mtime_ns == kept
    assert square.read_bytes() == content
    assert main(arguments) == 0
    assert "2 videos of 1 suites, 0 to sample" in capsys.readouterr().out
    assert main([*arguments, "height=32", "samples_per_prompt=2", "preset=paper-slow", "seed=1"]) == 2
    assert "made with other settings: height was 16, now 32; seed was 0, now 1; policy.name was" in (
        capsys.readouterr().err
    )


NAMES = ("a red circle. resting-0.mp4", "a blue square-0.mp4")


@pytest.mark.slow
def test_after_a_sudden_end_nothing_is_made_twice(arguments: list[str], tmp_path: Path) -> None:
    arguments = [*arguments, "samples_per_prompt=3", "devices=[cpu]"]
    videos = tmp_path / "out" / "videos" / "subject_consistency"
    first = subprocess.Popen([sys.executable, "-m", "motioncache_skyreels.vbench", *arguments], start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(videos.glob("*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.kill()
    first.wait()
    with OutputFolder(tmp_path / "out").lock():  # all workers have ended
        made = {path.name: path.stat().st_mtime_ns for path in videos.iterdir()}
    assert 1 <= len(made) < 6
    assert main(arguments) == 0
    after = {path.name: path.stat().st_mtime_ns for path in videos.iterdir()}
    assert len(after) == 6
    assert made.items() <= after.items()
    assert list((tmp_path / "out" / "partial").iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dimensions=[beauty]", "'beauty' is not a VBench dimension; allowed: subject_consistency"),
        ("dimensions=[]", "vbench.dimensions is empty"),
        ("full_info=none.json", "none.json is not VBench's list of prompts"),
        ("samples_per_prompt=0", "samples_per_prompt: 0 is not allowed"),
        ("samples_per_prompt=1000000000000", "allowed: from 1 to 1000"),
        ("devices=cpu:x", "vbench.devices: 'cpu:x' has the wrong type"),
        ("devices=[cpu:x]", "device: 'cpu:x' is not allowed"),
        ("devices=[[1]]", "vbench.devices: ((1,),) has the wrong type"),
        ("prompt=a dog", "vbench: prompt cannot be set here; VBench's own prompts are sampled"),
        ("device=cpu", "vbench: device cannot be set here; pass devices=[...]"),
        ("sample=2", "unknown key 'sample'"),
        ("model=./none", "there is no model folder ./none"),
        ("preset=none", "unknown preset 'none'"),
        ("devices=[cuda:99]", "CUDA"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(
    override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([CONFIG, f"full_info={full_info(tmp_path)}", f"output={tmp_path / 'out'}", override]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_without_vbench_the_error_says_what_to_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    if importlib.util.find_spec("vbench") is not None:
        pytest.skip("vbench is installed here")
    assert main([CONFIG, f"output={tmp_path}"]) == 2
    assert "set vbench.full_info" in capsys.readouterr().err
