"""The tour in CONTRIBUTING.md names every file that a denoise step passes."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from tour import Passed, follow_magi, follow_skyreels  # noqa: E402


@pytest.mark.parametrize(
    ("follow", "size", "most_files", "most_lines"),
    [
        (follow_skyreels, ["num_frames=37", "base_num_frames=37", "num_inference_steps=12"], 13, 1600),
        (follow_magi, ["num_frames=48", "num_inference_steps=16"], 19, 2000),
    ],
    ids=["SkyReels-V2", "MAGI-1"],
)
def test_the_tour_is_short_and_names_every_file(
    follow: Callable[..., Passed], size: list[str], most_files: int, most_lines: int
) -> None:
    lines = follow("slow", *size).lines()
    tour = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(lines) >= 9
    assert [path.name for path in lines if path.name not in tour] == []
    assert len(lines) <= most_files
    assert sum(lines.values()) <= most_lines
