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
)


@pytest.mark.parametrize(
    ("script", "more"), [*((s, []) for s in SCRIPTS), ("MotionCache4MAGI-1/scripts/motioncache.sh", ["model=any"])]
)
def test_a_users_mistake_is_one_line_and_status_2(script: str, more: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / script), "preset=nope", *more],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "unknown preset 'nope'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_all_scripts_are_valid_shell() -> None:
    scripts = [ROOT / ".ci" / "run", *ROOT.glob("*.sh"), *ROOT.glob("*/*.sh"), *ROOT.glob("*/scripts/*.sh")]
    assert len(scripts) >= 5
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
