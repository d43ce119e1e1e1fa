"""Processes that sample for VBench end with the one that started them, whatever ends that."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from motioncache.errors import MotionCacheError
from motioncache_eval.vbench import lock
from motioncache_eval.vbench.lock import locked

WORKER = """
import os, sys, time
from pathlib import Path
folder, device = Path(sys.argv[1]), os.environ["MOTIONCACHE_VBENCH_DEVICE"]
(folder / f"new-{device}").write_text(str(os.getpid()))
(folder / f"new-{device}").rename(folder / device)
assert sys.stdin.read() == ""
while not (folder / "go").exists():
    time.sleep(0.05)
sys.exit(3 if device == "fails" else 0)
"""
PARENT = """
import sys
from pathlib import Path
from motioncache_eval.vbench.lock import locked
from motioncache_eval.vbench.workers import run_workers
with locked(Path(sys.argv[1]) / "lock", "the folder") as held:
    print(run_workers("motioncache_test_worker", [sys.argv[1]], sys.argv[2:], held))
"""


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def is_running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


Start = Callable[..., tuple[subprocess.Popen[str], list[int]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that runs workers in `tmp_path`; returns it with the process ids of the workers."""
    (tmp_path / "motioncache_test_worker.py").write_text(WORKER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    started: list[subprocess.Popen[str]] = []

    def begin(*devices: str) -> tuple[subprocess.Popen[str], list[int]]:
        command = [sys.executable, "-c", PARENT, str(tmp_path), *devices]
        parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(parent)
        assert wait_for(lambda: all((tmp_path / device).exists() for device in devices))
        return parent, [int((tmp_path / device).read_text()) for device in devices]

    yield begin
    (tmp_path / "go").touch()
    for parent in started:
        parent.kill()
        parent.communicate(timeout=60)


def test_all_workers_are_waited_for_and_their_statuses_returned(start: Start, tmp_path: Path) -> None:
    parent, workers = start("cpu", "fails")
    assert all(map(is_running, workers))
    (tmp_path / "go").touch()
    assert parent.communicate(timeout=60)[0] == "[0, 3]\n"


SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_workers_end_when_their_parent_alone_gets_a_signal(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    parent, workers = start("one", "two")
    parent.send_signal(number)
    assert wait_for(lambda: not any(map(is_running, workers)), seconds=10)
    parent.communicate(timeout=60)
    with locked(tmp_path / "lock", "the folder"):
        assert f'"process": {os.getpid()}' in (tmp_path / "lock").read_text()


def test_an_interrupt_of_the_terminal_reaches_the_parent_alone(start: Start, tmp_path: Path) -> None:
    parent, workers = start("one")
    os.kill(workers[0], signal.SIGINT)
    (tmp_path / "go").touch()
    assert parent.communicate(timeout=60)[0] == "[0]\n"


def test_workers_hold_the_lock_as_long_as_they_live(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.5)
    parent, workers = start("one")
    os.kill(workers[0], signal.SIGSTOP)  # it cannot end yet
    parent.kill()
    parent.wait()
    with (
        pytest.raises(MotionCacheError, match=f"the folder is in use by process {parent.pid} on "),
        locked(tmp_path / "lock", "the folder"),
    ):
        pass
    monkeypatch.setattr(lock, "_PATIENCE", 20)
    os.kill(workers[0], signal.SIGCONT)
    with locked(tmp_path / "lock", "the folder"):
        assert not is_running(workers[0])
