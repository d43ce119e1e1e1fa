"""The scripts run from any directory, use the Python that is at hand, and keep exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from motioncache_magi.job.__main__ import main as magi_main
from motioncache_skyreels.job.__main__ import main as skyreels_main

ROOT = Path(__file__).parents[1]
SCRIPTS = (
    "scripts/motioncache.sh",
    "run_vbench.sh",
    "MotionCache4SkyReels-V2/run_vbench.sh",
    "MotionCache4MAGI-1/scripts/motioncache.sh",
)


def run(
    script: str, *arguments: str, folder: Path, python: str = sys.executable, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / script), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHON": python} | variables,
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
    done = run("scripts/benchmark.sh", "nope=1", folder=tmp_path, JOBS="1")
    assert done.returncode == 2
    assert "unknown key 'nope'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def says_its_arguments(tmp_path: Path) -> str:
    """In the place of Python: it has every module, and prints what it is called with, a line each."""
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\n[ "$1" = - ] || printf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_model_is_chosen_at_the_top(
    says_its_arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each model knows its own settings, and a prompt with spaces stays whole."""

    def called(*arguments: str) -> list[str]:
        script = "scripts/motioncache.sh"
        return run(script, *arguments, folder=tmp_path, python=says_its_arguments).stdout.splitlines()

    skyreels = called("special_tokens=none.npz")
    magi = called("flow_shift=3", "model=magi-1", "prompt=a red circle")
    assert skyreels[:2] == ["-m", "motioncache_skyreels.job"]
    assert magi[:2] == ["-m", "motioncache_magi.job"]
    assert magi[3:] == ["flow_shift=3", "prompt=a red circle"]
    assert skyreels_main(skyreels[2:]) == 2
    assert "special_tokens" in capsys.readouterr().err
    assert magi_main(magi[2:]) == 2
    error = capsys.readouterr().err
    assert "flow_shift" in error
    assert "seed" in error  # what is allowed instead


def test_all_scripts_are_valid_shell() -> None:
    scripts = [ROOT / ".ci" / "run", *ROOT.glob("*.sh"), *ROOT.glob("*/*.sh"), *ROOT.glob("*/scripts/*.sh")]
    assert len(scripts) >= 5
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
