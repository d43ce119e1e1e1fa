"""A disk that gets full while videos are made, which is a small tmpfs here, where the system lets a user mount one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .standin import install

MOUNT = [
    "unshare",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"',
]


def can_mount(folder: Path) -> bool:
    try:
        return subprocess.run([*MOUNT, "64k", str(folder), "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("size", "found"), [("4k", "settings.json"), ("12k", "start again"), ("48k", "videos were made, ")]
)
def test_a_full_disk_is_one_line(size: str, found: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("this system lets no user mount a tmpfs")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "scene.txt").write_text("".join(f"video {number}\n" for number in range(12)))
    command = [sys.executable, "-m", "motioncache_eval", "vbench", "stand-in", f"short_prompts={tmp_path / 'prompts'}"]
    ended = subprocess.run(
        [*MOUNT, size, str(disk), *command, "dimensions=[scene]", f"output={disk / 'out'}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(install(tmp_path)), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "No space left on device; free some space" in line
    assert found in line
