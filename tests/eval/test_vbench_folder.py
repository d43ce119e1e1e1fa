"""The output folder of VBench sampling: one kind of videos, whole ones, each made by one process."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from motioncache import ForecastConfig, MotionCacheConfig
from motioncache.errors import MotionCacheError
from motioncache.forecast.calibration import ModelIdentity
from motioncache_eval.vbench import lock
from motioncache_eval.vbench.check import video_fault
from motioncache_eval.vbench.folder import OutputFolder, hold
from motioncache_eval.vbench.manifest import read_manifest
from motioncache_eval.vbench.prompts import Video
from motioncache_eval.vbench.record import describe_policy, fingerprint

from ..calibration import write_calibration
from .vbench_folders import SETTINGS, SIZE, VIDEOS, cut, enter, noise, write


def prepare(folder: OutputFolder, settings: dict[str, Any] = SETTINGS, videos: list[Video] = VIDEOS) -> None:
    folder.prepare(settings, videos)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(MotionCacheError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_settings_are_refused_and_named(folder: OutputFolder) -> None:
    prepare(folder)
    other = {**SETTINGS, "height": 32, "policy": {"name": "MotionCacheConfig", "threshold": 0.2}}
    message = refusal(lambda: prepare(folder, other))
    assert f"the videos in {folder.root} were made with other settings: " in message
    assert "height was 16, now 32; policy.threshold was 0.1, now 0.2; pass these, or another output=" in message
    assert "seed was None, now 1" in refusal(lambda: prepare(folder, {**SETTINGS, "seed": 1}))
    assert "policy.name was 'MotionCacheConfig', now 'None'" in refusal(
        lambda: prepare(folder, {**SETTINGS, "policy": {"name": "None"}})
    )


def test_other_prompts_are_refused_and_further_ones_are_not(folder: OutputFolder) -> None:
    more = Video(suite="color", name="red-0.mp4", short="red", prompt="red", index=0)
    prepare(folder, videos=[*VIDEOS, more])
    longer = [Video(suite="scene", name="alley-0.mp4", short="alley", prompt="A narrow alley.", index=0)]
    message = refusal(lambda: prepare(folder, videos=longer))
    assert "for 'alley' in scene it was 'alley', now 'A narrow alley.'" in message
    assert json.loads(folder.prompts.read_text()) == {
        "scene": {"alley": "alley", "beach": "beach"}, "color": {"red": "red"},
    }  # fmt: skip


def test_settings_that_made_nothing_are_forgotten(folder: OutputFolder) -> None:
    folder.path(VIDEOS[0]).unlink()
    prepare(folder, {"model": "other"})
    assert json.loads(folder.settings.read_text()) == {"model": "other"}


@pytest.mark.parametrize("content", [None, "", "[1]", "null", "{", "[" * 100_000, '{"scene": 5}'])
@pytest.mark.parametrize("name", ["settings.json", "prompts.json"])
def test_a_lost_or_damaged_record_is_refused(folder: OutputFolder, name: str, content: str | None) -> None:
    path = folder.root / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert "another output=" in refusal(lambda: prepare(folder))


CHANGED = "its content has changed since it was made"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "it has 200 bytes, not "),
    "empty": (lambda path: path.write_bytes(b""), "it has 0 bytes, not "),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), " bytes, not "),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), CHANGED),
    "a bit": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), CHANGED),
    "another": (lambda path: write(path, 1 - noise()), ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_as_it_was_made_is_set_aside_and_made_again(
    folder: OutputFolder, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, reason = FAULTS[fault]
    path = folder.path(VIDEOS[0])
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    change(path)
    content = path.read_bytes()
    assert folder.find_missing(VIDEOS) == VIDEOS
    said = capsys.readouterr().out
    assert said.startswith("alley-0.mp4 is made again, for ")
    assert reason in said
    assert not path.exists()
    assert [kept.read_bytes() for kept in folder.root.glob("set-aside/*/scene/alley-0.mp4")] == [content]


def test_a_video_that_nobody_entered_is_set_aside(folder: OutputFolder, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder.path(VIDEOS[1]), noise())
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    assert "beach-0.mp4 is made again, for it is not in the manifest" in capsys.readouterr().out


def test_the_manifest_survives_lines_that_are_cut_short(folder: OutputFolder) -> None:
    whole = folder.manifest.read_bytes()
    write(folder.path(VIDEOS[1]), noise())
    for damage in (b'{"video": "scene/be', b"\xff\n", b"[" * 100_000, b"null\n", b'{"video": 1}\n'):
        folder.manifest.write_bytes(whole + damage)
        enter(folder, VIDEOS[1])
        assert set(read_manifest(folder.manifest)) == {"scene/alley-0.mp4", "scene/beach-0.mp4"}
        assert folder.find_missing(VIDEOS) == []


def test_the_last_entry_of_a_video_counts(folder: OutputFolder) -> None:
    write(folder.path(VIDEOS[0]), 1 - noise())
    enter(folder, VIDEOS[0])
    assert folder.find_missing(VIDEOS) == [VIDEOS[1]]
    assert len(folder.manifest.read_text().splitlines()) == 2


VIDEO_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "it cannot be read as a video"),
    "half": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "it cannot be read as a video",
    ),
    "empty": (lambda path: path.write_bytes(b""), "it cannot be read as a video"),
    "text": (lambda path: path.write_text("complete already"), "it cannot be read as a video"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "it cannot be read as a video"),
    "size": (lambda path: write(path, noise(height=32)), "it has 5 frames of 32x32, not 5 frames of 32x16"),
    "frames": (lambda path: write(path, noise(frames=4)), "it has 4 frames of 32x16, not 5 frames of 32x16"),
    "black": (lambda path: write(path, torch.zeros(5, 3, 16, 32)), "it is black"),
}


@pytest.mark.parametrize("fault", VIDEO_FAULTS)
def test_what_is_no_whole_video_is_told(folder: OutputFolder, fault: str) -> None:
    change, reason = VIDEO_FAULTS[fault]
    path = folder.path(VIDEOS[0])
    assert video_fault(path, SIZE) is None
    change(path)
    assert video_fault(path, SIZE) == reason


def test_a_video_that_starts_black_or_is_dark_is_whole(tmp_path: Path) -> None:
    fade = noise() * torch.tensor([0, 0, 0.1, 0.5, 1]).view(5, 1, 1, 1)
    for video in (fade, noise() * 0.2, torch.ones(5, 3, 16, 32)):
        write(tmp_path / "video.mp4", video)
        assert video_fault(tmp_path / "video.mp4", SIZE) is None


def test_something_else_where_a_video_belongs_is_refused(folder: OutputFolder) -> None:
    folder.path(VIDEOS[1]).mkdir()
    assert "beach-0.mp4 is no file, and a video belongs there" in refusal(lambda: folder.find_missing(VIDEOS))
    folder.path(VIDEOS[1]).rmdir()
    os.mkfifo(folder.path(VIDEOS[1]))
    assert "beach-0.mp4 is no file, and a video belongs there" in refusal(lambda: folder.find_missing(VIDEOS))


@pytest.mark.parametrize("place", ["out", "out/partial", "out/videos", "out/videos/scene", "out/manifest.jsonl/x"])
def test_a_file_where_a_folder_belongs_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    message = refusal(lambda: prepare(OutputFolder(tmp_path / "out")))
    assert f"output={tmp_path / 'out'} cannot be used: " in message


def test_a_folder_without_permission_is_refused(folder: OutputFolder) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied", "somewhere")
    for method in ("mkdir", "exists", "is_file", "open", "glob"):
        with patch.object(Path, method, side_effect=denied):
            message = refusal(lambda: (prepare(folder), folder.find_missing(VIDEOS)))
        assert "Permission denied" in message


@pytest.mark.parametrize("place", ["out", "out/lock/x", "out/lock"])
def test_a_folder_that_cannot_be_held_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if place == "out/lock" else path.write_text("")
    assert f"output={tmp_path / 'out'} cannot be used: " in refusal(lambda: hold(tmp_path / "out").__enter__())


def test_the_lock_names_its_holder_and_is_free_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)
    with hold(tmp_path):
        message = refusal(lambda: hold(tmp_path).__enter__())
        assert f"output={tmp_path} is in use by process {os.getpid()} on " in message
    with hold(tmp_path):
        pass


def test_what_was_not_finished_is_cleared_away(folder: OutputFolder) -> None:
    (folder.partial / "abandoned.mp4").write_bytes(b"half a video")
    prepare(folder)
    assert list(folder.partial.iterdir()) == []


def test_the_fingerprint_of_a_model_sees_its_files(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    weights = np.zeros(1_000_000, np.uint8)
    (tmp_path / "part" / "model.safetensors").write_bytes(weights.tobytes())
    (tmp_path / "config.json").write_text("{}")
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("no part of the model")
    assert fingerprint(tmp_path) == before
    weights[400_000:500_000] = 1
    (tmp_path / "part" / "model.safetensors").write_bytes(weights.tobytes())
    changed = fingerprint(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert len({before, changed, fingerprint(tmp_path)}) == 3


def test_a_calibration_that_videos_give_is_recorded_by_its_name(tmp_path: Path) -> None:
    presets = tmp_path / "config.yaml"
    presets.write_text("polynomials: [1]")
    assert describe_policy(ForecastConfig(calibration="auto"), presets)["calibration"] == "auto"


def test_a_policy_is_recorded_with_what_it_takes_from_files(tmp_path: Path) -> None:
    presets = tmp_path / "config.yaml"
    presets.write_text("polynomials: [1]")
    write_calibration(tmp_path, ModelIdentity(2, 48, weights=(0.5,)))
    forecast, motion = (describe_policy(policy, presets) for policy in (ForecastConfig(), MotionCacheConfig()))
    own = describe_policy(MotionCacheConfig(coefficients=(1.0,)), presets)
    presets.write_text("polynomials: [2]")
    write_calibration(tmp_path, ModelIdentity(2, 64, weights=(0.5,)))
    assert describe_policy(ForecastConfig(), presets) != forecast
    assert describe_policy(MotionCacheConfig(), presets) != motion
    assert describe_policy(MotionCacheConfig(coefficients=(1.0,)), presets) == own
