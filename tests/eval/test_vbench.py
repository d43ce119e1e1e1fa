"""Sampling for VBench with the shipped models: names, restarts, sudden ends, bad input, dry runs."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motioncache.errors import ConfigError
from motioncache_eval.cli import main
from motioncache_eval.jobs import find_model
from motioncache_eval.prompts import read_prompts
from motioncache_eval.vbench.deliver import Delivery, accept
from motioncache_eval.vbench.folder import hold
from motioncache_eval.vbench.manifest import file_fault, read_manifest
from motioncache_eval.vbench.plan import Plan, make_plan, video_seed
from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION, Video, file_name, list_videos, suites_of
from motioncache_eval.vbench.sampler import make_or_explain
from motioncache_eval.video import read_video

SMALL = {
    "skyreels-v2": ["height=16", "width=32", "num_frames=37", "base_num_frames=37", "num_inference_steps=6"],
    "magi-1": ["height=16", "width=32", "num_frames=24", "num_inference_steps=12"],
}
FRAMES = {"skyreels-v2": 37, "magi-1": 24}


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


@pytest.fixture(params=["skyreels-v2", "magi-1"])
def arguments(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """A run that makes two videos with each of two presets."""
    model = str(request.param)
    return [
        "vbench", model, *SMALL[model], "presets=[vanilla,exact]", f"full_info={full_info(tmp_path)}",
        f"output={tmp_path / 'out'}", "devices=[cpu,cpu]", "dimensions=[subject_consistency]", "score=false",
    ]  # fmt: skip


NAMES = ("a red circle. resting-0.mp4", "a blue square-0.mp4")


@pytest.mark.slow
def test_sampling_makes_what_is_missing_or_damaged_and_keeps_the_rest(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    out = tmp_path / "out"
    circle, square = (out / "exact" / "videos" / "subject_consistency" / name for name in NAMES)
    assert read_video(circle).shape == (FRAMES[arguments[1]], 16, 32, 3)
    assert sorted(str(path.relative_to(out)) for path in out.glob("*/videos/*/*")) == sorted(
        f"{preset}/videos/subject_consistency/{name}" for preset in ("vanilla", "exact") for name in NAMES
    )
    assert list(out.glob("*/partial/*")) == []
    kept, content = circle.stat().st_mtime_ns, square.read_bytes()
    square.write_bytes(content[:200])
    capsys.readouterr()
    assert main([*arguments, "devices=[cpu]"]) == 0
    said = capsys.readouterr().out
    assert "4 videos (vanilla, exact), 3 are there, 1 to sample" in said
    assert "4 of 4 videos, 0 failed, " in said
    assert circle.stat().st_mtime_ns == kept
    assert square.read_bytes() == content  # the same seed, whichever process makes it
    assert main(arguments) == 0
    assert "4 are there, 0 to sample" in capsys.readouterr().out
    assert main([*arguments, "height=32", "seed=1"]) == 2
    assert "made with other settings: height was 16, now 32; seed was 0, now 1" in capsys.readouterr().err


@pytest.mark.slow
def test_after_a_sudden_end_nothing_is_lost_made_twice_or_damaged(arguments: list[str], tmp_path: Path) -> None:
    """SIGKILL of the parent, at a few moments, the first of them while the model is loaded."""
    arguments = [*arguments, "samples_per_prompt=3", "presets=[exact]"]
    folder = tmp_path / "out" / "exact"
    videos, before = folder / "videos" / "subject_consistency", {}
    for count in (0, 1, 3):
        first = subprocess.Popen([sys.executable, "-m", "motioncache_eval", *arguments], start_new_session=True)
        deadline = time.monotonic() + 120
        while (not videos.exists() or len(list(videos.glob("*.mp4"))) < count) and time.monotonic() < deadline:
            time.sleep(0.02)
        first.kill()
        first.wait()
        with hold(tmp_path / "out"):  # all workers have ended
            made = {path.name: path.stat().st_mtime_ns for path in videos.iterdir()}
        assert count <= len(made)
        assert before.items() <= made.items()
        before = made
    assert main(arguments) == 0
    after = {path.name: path.stat().st_mtime_ns for path in videos.iterdir()}
    assert len(after) == 6
    assert before.items() <= after.items()
    entries = read_manifest(folder / "manifest.jsonl")
    assert [path for path in videos.iterdir() if file_fault(path, entries.get(f"{videos.name}/{path.name}"))] == []
    assert list((folder / "partial").iterdir()) == []


def test_too_little_memory_is_one_line_and_the_videos_after_it_are_made(tmp_path: Path) -> None:
    texts = [*SMALL["magi-1"], "presets=[vanilla]", f"full_info={full_info(tmp_path)}", f"output={tmp_path}"]
    texts.append("dimensions=[subject_consistency]")
    model = find_model("magi-1")
    plan = make_plan(model, model.adapter().presets(), texts)
    folder = plan.folder("vanilla")
    folder.prepare(plan.describe("vanilla"), plan.videos)
    loaded = model.load(plan.job)
    first, second = plan.items()
    short = replace(loaded, call=lambda *_: torch.zeros(2**44))
    reason = make_or_explain(plan, short, first)
    assert reason == "cpu has too little memory for 24 frames of 32x16: pass a smaller video"
    made = make_or_explain(plan, loaded, second)
    assert isinstance(made, Delivery)
    assert accept(folder, second.video, made) is None
    assert folder.find_missing(plan.videos) == [first.video]


def synthetic_full_info(folder: Path) -> Path:
    """A list of as many prompts as VBench's, suite by suite."""
    prompts = {
        "subject_consistency": 72, "scene": 86, "overall_consistency": 93, "temporal_flickering": 75,
        "object_class": 79, "multiple_objects": 82, "human_action": 100, "color": 85, "spatial_relationship": 84,
        "appearance_style": 90, "temporal_style": 100,
    }  # fmt: skip
    path = folder / "full.json"
    entries = [{"prompt_en": f"{suite} {i}", "dimension": [suite]} for suite, n in prompts.items() for i in range(n)]
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("model", "setting", "head", "row"),
    [
        ("skyreels-v2", "standard", "12460 videos: 6230 of 2 presets", "| vanilla | 2 | 3.461 | seconds_per_video |"),
        ("skyreels-v2", "paper", "1892 videos: 946 of 2 presets", "| vanilla | 1540 | 404.7 | seconds_per_video |"),
        ("magi-1", "standard", "12460 videos: 6230 of 2 presets", "| slow | not known | not known | pass seconds_per"),
        ("magi-1", "paper", "1892 videos: 946 of 2 presets", "| slow | 925 | 243.1 | seconds_per_video |"),
    ],
)
def test_a_dry_run_counts_the_videos_and_hours_of_the_named_settings(
    model: str, setting: str, head: str, row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = ["seconds_per_video={vanilla: 2}"] if setting == "standard" else []
    texts = [f"setting={setting}", "dry_run=true", "presets=[vanilla,slow]", f"output={tmp_path / 'out'}", *seconds]
    assert main(["vbench", model, *texts, f"full_info={synthetic_full_info(tmp_path)}"]) == 0
    said = capsys.readouterr().out
    assert f"{head}\n" in said
    assert row in said
    flickering = 75 * 25 if setting == "standard" else 75
    assert f"| temporal_flickering | 75 | {flickering} | temporal_flickering |" in said
    assert not (tmp_path / "out").exists()


def test_the_papers_settings_are_those_of_its_scripts(tmp_path: Path) -> None:
    texts = ["setting=paper", "dry_run=true", f"full_info={synthetic_full_info(tmp_path)}"]
    magi, skyreels = find_model("magi-1"), find_model("skyreels-v2")
    plan = make_plan(magi, magi.adapter().presets(), [*texts, "model=weights"])
    job = plan.job
    assert (job.model, job.variant, job.height, job.width) == ("weights", "4.5B_distill", 720, 720)
    assert (job.num_frames, job.num_inference_steps) == (168, 64)
    assert {plan.seed(video) for video in plan.videos} == {1234}
    assert {video.index for video in plan.videos} == {0}
    job = make_plan(skyreels, skyreels.adapter().presets(), texts).job
    assert (job.height, job.width, job.num_frames, job.base_num_frames, job.overlap_history) == (544, 960, 177, 97, 17)
    assert (job.guidance_scale, job.flow_shift, job.addnoise_condition, job.ar_step) == (6, 8, 20, 5)


def test_long_prompts_that_are_not_there_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["setting=paper", f"full_info={synthetic_full_info(tmp_path)}", f"output={tmp_path / 'out'}"]
    assert main(["vbench", "skyreels-v2", *texts]) == 2
    assert "clone https://github.com/Vchitect/VBench, and pass long_prompts=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dimensions=[beauty]", "'beauty' is not a VBench dimension; allowed: all, subject_consistency"),
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
        ("preset=none", "vbench: preset cannot be set here; pass presets=[...]"),
        ("presets=[none]", "unknown preset 'none'"),
        ("presets=[]", "presets: [] is not allowed; allowed: a list of at least one preset"),
        ("presets=[slow,slow]", "two of slow, slow would have the folder slow"),
        ("setting=big", "there is no setting 'big'; allowed: null, standard, paper"),
        ("seconds_per_video={slow: 0}", "seconds_per_video.slow: 0 is not allowed"),
        ("magi-2", "there is no model 'magi-2'; installed: helios, magi-1, skyreels-v2"),
        ("devices=[cuda:99]", "CUDA"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(
    override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"full_info={full_info(tmp_path)}", f"output={tmp_path / 'out'}", "dimensions=[subject_consistency]"]
    assert main(["vbench", *given, override]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_without_vbench_its_own_prompts_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for python in (tmp_path / "none", Path(sys.executable)):  # which has no vbench
        monkeypatch.setenv("VBENCH_PYTHON", str(python))
        assert main(["vbench", f"output={tmp_path}", "short_prompts=null"]) == 2
        error = capsys.readouterr().err
        assert f"{python} has no vbench: run bash scripts/vbench_env.sh, set full_info to a VBench_full" in error


@pytest.mark.parametrize("model", ["skyreels-v2", "magi-1"])
def test_the_files_prompts_are_those_of_its_model_alone(model: str, tmp_path: Path) -> None:
    found = find_model(model)

    def plan(*texts: str) -> Plan:
        return make_plan(found, found.adapter().presets(), [*texts, "dry_run=true"])

    assert [video.short for video in plan().videos] == read_prompts(
        Path(__file__).parents[2] / "benchmarks" / "vbench_prompts.txt"
    )
    own = tmp_path / "own.txt"
    own.write_text("a dog\n")
    assert [video.short for video in plan(f"short_prompts={own}", "model=weights").videos] == ["a dog"]
    assert [video.short for video in plan(f"short_prompts={own}", f"full_info={own}").videos] == ["a dog"]
    for texts in (["model=weights"], ["setting=paper"], []):
        videos = plan(*texts, f"full_info={synthetic_full_info(tmp_path)}").videos
        assert videos[-1].short.startswith("temporal_")
