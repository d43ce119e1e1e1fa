"""The benchmark that a stranger starts from."""

import subprocess
import sys
from pathlib import Path

import pytest

from motioncache_eval.bench.results import is_complete

EXAMPLE = Path(__file__).parents[2] / "benchmarks" / "example.yaml"


@pytest.mark.slow
def test_the_example_runs_where_it_stands(tmp_path: Path) -> None:
    """With smaller settings, in a process of its own, whose output is no terminal."""
    smaller = ("count=1", "settings.num_inference_steps=6", "methods.Forecast.policy.target_speedup=1.5")
    done = subprocess.run(
        [sys.executable, "-m", "motioncache_eval.bench", str(EXAMPLE), *smaller],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "vanilla 000: 120.0 dB"
    names = ["forecast", "slow", "teacache", "vanilla"]
    assert sorted(line.partition(" ")[0] for line in lines[:4]) == names
    output = tmp_path / "outputs" / "bench-example"
    assert all(
        is_complete(output / "cells" / name / "000.json") for name in ("forecast", "slow", "teacache", "vanilla")
    )
    assert {"table.md", "curve.png", "chunks.png", "report.html"} <= {path.name for path in output.iterdir()}


def test_the_example_is_short() -> None:
    settings = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    assert len(settings) <= 10
