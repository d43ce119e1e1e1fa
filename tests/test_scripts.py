"""The scripts run from any directory, use the Python that is at hand, and keep exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from motioncache_eval.cli import main

ROOT = Path(__file__).parents[1]
SCRIPTS = (
    "scripts/motioncache.sh",
    "run_vbench.sh",
    "MotionCache4SkyReels-V2/run_vbench.sh",
    "MotionCache4MAGI-1/run_vbench.sh",
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
    done = run(script, "presets=[nope]" if "vbench" in script else "preset=nope", folder=tmp_path)
    assert done.returncode == 2
    assert "unknown preset 'nope'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_benchmark_is_one_line_and_status_2(tmp_path: Path) -> None:
    pytest.importorskip("cache_dit")
    pytest.importorskip("flip_evaluator")
    done = run("scripts/benchmark.sh", "nope=1", folder=tmp_path, JOBS="2")
    assert done.returncode == 2
    assert "unknown key 'nope'" in done.stderr
    assert done.stderr.count("\n") == 1  # and not once for each worker
    done = run("scripts/benchmark.sh", folder=tmp_path, JOBS="0")
    assert (done.returncode, done.stderr) == (2, "error: JOBS=0 is not allowed; allowed: 1 to 99\n")


def fake_python(path: Path, package: str = "") -> str:
    """In the place of Python: it has every module, `motioncache` in a folder, and prints what it is called with."""
    path.write_text(f'#!/bin/sh\n[ "$1" = - ] && echo "{package}" || printf "%s\\n" "$PYTHONPATH" "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_the_model_is_chosen_at_the_top(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each model knows its own settings, and a prompt with spaces stays whole."""
    python = fake_python(tmp_path / "python")

    def called(script: str, *arguments: str) -> list[str]:
        return run(script, *arguments, folder=tmp_path, python=python).stdout.splitlines()[1:]

    skyreels = called("scripts/motioncache.sh", "special_tokens=none.npz")
    magi = called("scripts/motioncache.sh", "flow_shift=3", "model=magi-1", "prompt=a red  ${circle}")
    assert skyreels == ["-m", "motioncache_eval", "demo", "special_tokens=none.npz"]
    assert magi == ["-m", "motioncache_eval", "demo", "flow_shift=3", "model=magi-1", "prompt=a red  ${circle}"]
    assert called("MotionCache4MAGI-1/scripts/motioncache.sh", "seed=1")[2:] == ["demo", "model=magi-1", "seed=1"]
    assert called("scripts/studio.sh", "port=80")[1:] == ["motioncache_eval", "studio", "port=80"]
    assert called("run_vbench.sh", "seed=1")[1:] == ["motioncache_eval", "vbench", "seed=1"]
    assert called("MotionCache4MAGI-1/run_vbench.sh", "seed=1")[2:] == ["vbench", "magi-1", "seed=1"]
    assert called("MotionCache4SkyReels-V2/run_vbench.sh", "seed=1")[2:] == ["vbench", "skyreels-v2", "seed=1"]
    assert main(skyreels[2:]) == 2
    assert "special_tokens" in capsys.readouterr().err
    assert main(magi[2:]) == 2
    error = capsys.readouterr().err
    assert "flow_shift" in error
    assert "seed" in error  # what is allowed instead


def test_a_script_runs_the_packages_of_its_own_clone(tmp_path: Path) -> None:
    other = tmp_path / "other" / "common" / "motioncache"
    other.mkdir(parents=True)
    for package in (other, ROOT / "common" / "motioncache"):
        done = run(
            "scripts/motioncache.sh",
            folder=tmp_path,
            python=fake_python(tmp_path / "python", str(package)),
            PYTHONPATH="",
        )
        if package is other:
            assert done.stdout.splitlines()[0].split(":")[0] == str(ROOT / "common")
            (line,) = done.stderr.splitlines()
            assert line == f"the active Python has the packages of {other}; those of {ROOT} are run in their place"
        else:
            assert done.stdout.splitlines()[0] == ""
            assert done.stderr == ""


@pytest.mark.parametrize("script", [*SCRIPTS, "scripts/benchmark.sh", "scripts/studio.sh", "scripts/test.sh"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_script_has_help(script: str, flag: str, tmp_path: Path) -> None:
    done = run(script, flag, folder=tmp_path, python=fake_python(tmp_path / "python"))
    assert done.returncode == 0
    assert "Usage: bash" in done.stdout
    assert done.stderr == ""
    assert "#" not in done.stdout
    command = {"scripts/test.sh": None, "scripts/benchmark.sh": "bench", "scripts/studio.sh": "studio"}.get(
        script, "demo"
    )
    command = "vbench" if "vbench" in script else command
    lines = done.stdout.splitlines()
    assert ("motioncache_eval" in lines) == (command is not None)
    if command is not None:
        assert lines[lines.index("motioncache_eval") + 1] == command
        assert lines[-1] == flag


def test_the_help_of_a_script_needs_no_environment(tmp_path: Path) -> None:
    missing = tmp_path / "python"
    missing.write_text("#!/bin/sh\nexit 1\n")
    missing.chmod(0o755)
    if (ROOT / ".venv").exists():
        pytest.skip("this clone has an environment")
    done = run("scripts/motioncache.sh", "-h", folder=tmp_path, python=str(missing))
    assert done.returncode == 0
    assert "Usage: bash scripts/motioncache.sh [key=value ...]" in done.stdout
    assert not (ROOT / ".venv").exists()


def test_a_script_lists_the_keys_of_the_model_that_is_named(tmp_path: Path) -> None:
    done = run("MotionCache4MAGI-1/scripts/motioncache.sh", "-h", folder=tmp_path)
    assert done.returncode == 0
    assert "\n  special_tokens=null  (text, or null)\n" in done.stdout


def test_all_scripts_are_valid_shell() -> None:
    scripts = [ROOT / ".ci" / "run", *ROOT.glob("*.sh"), *ROOT.glob("*/*.sh"), *ROOT.glob("*/scripts/*.sh")]
    assert len(scripts) >= 5
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
