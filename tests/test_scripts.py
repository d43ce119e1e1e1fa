"""The scripts run from any directory, use the Python that is at hand, and keep exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = (
    "scripts/motioncache.sh",
    "run_vbench.sh",
    "MotionCache4SkyReels-V2/run_vbench.sh",
    "MotionCache4MAGI-1/scripts/motioncache.sh",
)


def run(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / script), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_users_mistake_is_one_line_and_status_2(script: str, tmp_path: Path) -> None:
    done = run(script, "preset=nope", folder=tmp_path)
    assert done.returncode == 2
    assert "unknown preset 'nope'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_benchmark_is_one_line_and_status_2(tmp_path: Path) -> None:
    pytest.importorskip("cache_dit")
    pytest.importorskip("flip_evaluator")
    done = run("scripts/benchmark.sh", "nope=1", folder=tmp_path)
    assert done.returncode == 2
    assert "unknown key 'nope'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_model_is_chosen_at_the_top(tmp_path: Path) -> None:
    """Each model knows its own settings, and a prompt with spaces stays whole."""
    skyreels = run("scripts/motioncache.sh", "special_tokens=none.npz", folder=tmp_path)
    magi = run("scripts/motioncache.sh", "flow_shift=3", "model=magi-1", "prompt=a red circle", folder=tmp_path)
    assert (skyreels.returncode, magi.returncode) == (2, 2)
    assert "special_tokens" in skyreels.stderr
    assert "flow_shift" in magi.stderr
    assert "seed" in magi.stderr  # what is allowed instead


def test_all_scripts_are_valid_shell() -> None:
    scripts = [ROOT / ".ci" / "run", *ROOT.glob("*.sh"), *ROOT.glob("*/*.sh"), *ROOT.glob("*/scripts/*.sh")]
    assert len(scripts) >= 5
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
