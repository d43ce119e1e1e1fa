"""The tour in CONTRIBUTING.md names every file that a denoise step passes."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from tour import follow_magi, follow_skyreels  # noqa: E402

LIMITS = {"skyreels": (10, 1250), "magi": (18, 1850)}
"""Most files and lines that one denoise step may pass."""


@pytest.mark.parametrize("preset", ["slow", "paper-slow"])
@pytest.mark.parametrize("model", LIMITS)
def test_the_tour_is_short_and_names_every_file(model: str, preset: str) -> None:
    passed = (follow_skyreels if model == "skyreels" else follow_magi)(preset)
    tour = (ROOT / "CONTRIBUTING.md").read_text()
    lines = passed.lines()
    assert len(lines) > 5
    assert [path.name for path in lines if path.name not in tour] == []
    most_files, most_lines = LIMITS[model]
    assert len(lines) <= most_files
    assert sum(lines.values()) <= most_lines
