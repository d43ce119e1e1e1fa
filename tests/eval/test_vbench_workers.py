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
from motioncache_eval.vbench.patience import Patience

WORKER = """
import os, sys, time
from pathlib import Path
def work(channel, device, arguments):
    folder = Path(arguments[0])
    (folder / f"new-{device}").write_text(str(os.getpid()))
    (folder / f"new-{device}").rename(folder / device)
    assert sys.stdin.read() == ""
    if device == "never":
        os._exit(3)
    while not (folder / "go").exists():
        time.sleep(0.05)
    while True:
        name = channel.next_order()["video"]["name"]
        with (folder / "asked").open("a") as asked:
            asked.write(f"{device} {name}\\n")
        if name == "kills":
            os.kill(os.getpid(), 9)
        if name == "hangs":
            time.sleep(600)
        if name == "stops":
            channel.send(event="stop", reason="the disk is full")
            time.sleep(60)
        time.sleep(0.05)
        channel.send(**({"event": "failed", "reason": "too large"} if name == "fails" else {"event": "made"}))
"""
PARENT = """
import sys
from pathlib import Path
from motioncache.errors import MotionCacheError
from motioncache_eval.vbench.dispatch import Dispatcher
from motioncache_eval.vbench.folder import hold
from motioncache_eval.vbench.patience import Patience
from motioncache_eval.vbench.plan import Item
from motioncache_eval.vbench.progress import Progress
from motioncache_eval.vbench.prompts import Video
from motioncache_eval.vbench.workers import LocalExecutor, Worker
folder, devices, names = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3].split(",")
items = [Item("slow", Video(suite="scene", name=name, short=name, prompt=name, index=0)) for name in names]
with hold(folder) as held:
    def start(place, device):
        log = folder / f"{device}.log"
        return Worker("motioncache_test_worker", device, [sys.argv[1]], log=log, lock=held)
    progress = Progress(2, len(items) + 2)
    executor = LocalExecutor(devices, start)
    patience = Patience(float(sys.argv[4]) if sys.argv[4:] else None)
    dispatcher = Dispatcher(items, executor, lambda item, event: None, progress, patience)
    try:
        dispatcher.run()
    except MotionCacheError as error:
        print("stopped:", error)
    progress.show(len(dispatcher.failed))
    progress.finish()
    print({str(item): reason for item, reason in dispatcher.failed.items()})
"""


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def is_running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def heed_signals() -> None:
    """A process started by nohup or in a script's background ignores some signals, and so do those that it starts."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


Start = Callable[..., tuple[subprocess.Popen[str], list[int]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that runs a worker per device in `tmp_path`; returns it with the process ids of the workers."""
    (tmp_path / "motioncache_test_worker.py").write_text(WORKER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    started: list[subprocess.Popen[str]] = []

    def begin(*devices: str, items: str = "a,b,c,d", limit: str = "") -> tuple[subprocess.Popen[str], list[int]]:
        command = [sys.executable, "-c", PARENT, str(tmp_path), ",".join(devices), items, *filter(None, [limit])]
        parent = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_signals,
        )
        started.append(parent)
        assert wait_for(lambda: all((tmp_path / device).exists() for device in devices))
        return parent, [int((tmp_path / device).read_text()) for device in devices]

    yield begin
    (tmp_path / "go").touch()
    for parent in started:
        parent.kill()
        parent.communicate(timeout=300)


def finish(parent: subprocess.Popen[str], folder: Path) -> tuple[list[str], list[list[str]]]:
    """Let the workers begin; return what the parent printed, and which device was asked for what."""
    (folder / "go").touch()
    lines = parent.communicate(timeout=300)[0].splitlines()
    return lines, [line.split() for line in (folder / "asked").read_text().splitlines()]


def test_workers_share_the_items_and_each_is_made_once(start: Start, tmp_path: Path) -> None:
    parent, workers = start("cpu", "cuda:1", items="a,b,c,d,e,f,g,h")
    assert all(map(is_running, workers))
    lines, asked = finish(parent, tmp_path)
    assert lines[0].startswith("10 of 10 videos, 0 failed, ")
    assert lines[-1] == "{}"
    assert sorted(name for _, name in asked) == list("abcdefgh")
    assert {device for device, _ in asked} == {"cpu", "cuda:1"}
    assert not any(map(is_running, workers))


def test_an_item_that_fails_is_tried_three_times_and_the_others_are_made(start: Start, tmp_path: Path) -> None:
    parent, _ = start("cpu", items="a,fails,b")
    lines, asked = finish(parent, tmp_path)
    assert [name for _, name in asked] == ["a", "fails", "b", "fails", "fails"]
    assert lines[:3] == [
        *["slow/scene/fails failed, and is tried again: too large"] * 2,
        "slow/scene/fails is given up, for it failed 3 times: too large",
    ]
    assert lines[3].startswith("4 of 5 videos, 1 failed, ")
    assert lines[-1] == "{'slow/scene/fails': 'too large'}"


def test_an_item_that_kills_its_process_is_given_up_and_the_others_are_made(start: Start, tmp_path: Path) -> None:
    parent, _ = start("cpu", items="kills,a,b")
    lines, asked = finish(parent, tmp_path)
    assert sorted(name for _, name in asked) == ["a", "b", "kills", "kills", "kills"]
    reason = f"the process on cpu ended (exit status -9); its log is {tmp_path / 'cpu.log'}"
    assert lines[-1] == str({"slow/scene/kills": reason})


def test_a_process_that_hangs_is_ended_and_its_item_is_tried_again(start: Start, tmp_path: Path) -> None:
    parent, _ = start("cpu", items="hangs,a,b", limit="0.5")
    lines, asked = finish(parent, tmp_path)
    assert sorted(name for _, name in asked) == ["a", "b", "hangs", "hangs", "hangs"]
    reason = "it was not made within 0.5 s, and its worker was ended"
    assert lines[0] == f"slow/scene/hangs failed, and is tried again: {reason}"
    assert lines[-1] == str({"slow/scene/hangs": reason})


def test_nobody_is_late_before_it_is_known_what_an_item_takes() -> None:
    patience = Patience(None)
    assert patience.seconds is None
    patience.note(3.0)
    assert patience.seconds == 600.0
    patience.note(200.0)
    patience.note(150.0)
    assert patience.seconds == 2000.0
    assert Patience(7.0).seconds == 7.0


def test_a_device_whose_process_never_gets_ready_is_given_up(start: Start, tmp_path: Path) -> None:
    parent, _ = start("cpu", "never")
    lines, asked = finish(parent, tmp_path)
    assert [device for device, _ in asked] == ["cpu"] * 4
    assert lines[-1] == "{}"
    parent, _ = start("never")
    (line, *_) = parent.communicate(timeout=300)[0].splitlines()
    assert line == f"stopped: the process on never ended (exit status 3); its log is {tmp_path / 'never.log'}"


def test_a_mistake_that_all_items_share_ends_all_workers(start: Start, tmp_path: Path) -> None:
    parent, workers = start("one", "two", items="stops,a,b,c")
    lines, _ = finish(parent, tmp_path)
    assert lines[0] == "stopped: the disk is full"
    assert not any(map(is_running, workers))


SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_workers_end_when_their_parent_alone_gets_a_signal(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    parent, workers = start("one", "two")
    parent.send_signal(number)
    assert wait_for(lambda: not any(map(is_running, workers)), seconds=10)
    parent.communicate(timeout=300)
    with locked(tmp_path / "lock", "the folder"):
        assert f'"process": {os.getpid()}' in (tmp_path / "lock").read_text()


def test_an_interrupt_of_the_terminal_reaches_the_parent_alone(start: Start, tmp_path: Path) -> None:
    parent, workers = start("one")
    os.kill(workers[0], signal.SIGINT)
    assert finish(parent, tmp_path)[0][-1] == "{}"
    assert not is_running(workers[0])


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
