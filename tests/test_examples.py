"""The examples run as they stand, on the shipped model and small videos."""

import runpy
import sys
from pathlib import Path

import pytest

from motioncache_eval.video import read_video

ROOT = Path(__file__).parents[1]
SMALL = ["--model", str(ROOT / "MotionCache4SkyReels-V2" / "motioncache-tiny"), "--size", "32x48", "--steps", "8"]


CALLS = [
    ("text_to_video", ["--frames", "37"], 37),
    ("text_to_video", ["--frames", "17", "--preset", "exact"], 17),
    ("long_video", ["--frames", "57", "--window", "37"], 57),
    ("low_memory", ["--frames", "37"], 37),
    ("low_memory", ["--frames", "37", "--offload", "group"], 37),
]


@pytest.mark.parametrize(("name", "options", "frames"), CALLS)
def test_an_example_writes_its_video_and_prints_the_summary(
    name: str,
    options: list[str],
    frames: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "video.mp4"
    monkeypatch.setattr(sys, "argv", [name, *SMALL, *options, "--output", str(output)])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert read_video(output).shape == (frames, 32, 48, 3)
    said = capsys.readouterr().out
    assert "fewer than without a cache" in said
    windows = {line.split()[0] for line in said.splitlines() if line[:6].strip().isdigit()}
    assert len(windows) == (2 if name == "long_video" else 1)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {name for name, *_ in CALLS}
