"""Runs that are killed again and again lose nothing, make nothing twice, damage nothing, and leave no process.

`MOTIONCACHE_KILLS=30` kills runs of the shipped models so often, and a few of a stand-in before.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from .kill_series import KINDS, Series
from .standin import install

KILLS = int(os.environ.get("MOTIONCACHE_KILLS", "0"))
COUNT = 24
SMALL = {
    "skyreels-v2": ["height=16", "width=32", "num_frames=17", "base_num_frames=17", "num_inference_steps=4"],
    "magi-1": ["height=16", "width=32", "num_frames=24", "num_inference_steps=12"],
}
SOON = 5.0
"""Seconds within which all processes of a killed run have to end."""

several = pytest.mark.skipif(not KILLS, reason="MOTIONCACHE_KILLS=30 kills runs again and again")
with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
executors = pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=with_ray)])


def prompts(folder: Path, texts: list[str]) -> list[str]:
    """Arguments that sample these prompts."""
    (folder / "prompts").mkdir()
    (folder / "prompts" / "scene.txt").write_text("\n".join(texts) + "\n")
    return [f"short_prompts={folder / 'prompts'}", "dimensions=[scene]", "presets=[vanilla]", "devices=[cpu,cpu]"]


@several
@executors
def test_killed_runs_of_a_stand_in_go_on_where_they_were(executor: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(install(tmp_path)), *sys.path])
    texts = [f"slow video {number}" for number in range(10)]
    arguments = ["stand-in", *prompts(tmp_path, texts), f"executor={executor}"]
    series = Series(tmp_path, arguments, len(texts), {"PYTHONPATH": path})
    series.go_on_until(len(KINDS) if executor == "local" else 2, KINDS if executor == "local" else ("worker", "parent"))
    assert series.slowest < 2 * SOON  # other tests run beside this one


@several
@executors
@pytest.mark.parametrize("model", SMALL)
def test_killed_runs_of_the_shipped_models_go_on_where_they_were(model: str, executor: str, tmp_path: Path) -> None:
    texts = [f"a red circle moves {number} steps" for number in range(COUNT)]
    arguments = [model, *SMALL[model], *prompts(tmp_path, texts), f"executor={executor}"]
    series = Series(tmp_path, arguments, COUNT)
    series.go_on_until(KILLS)
    print(f"{series.kills} kills in {series.runs} runs of {COUNT} items; at most {series.slowest:.1f} s to the end")
    assert series.slowest < SOON
