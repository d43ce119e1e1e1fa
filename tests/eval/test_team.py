"""Several processes of one command: what is said, and by whom, when something goes wrong."""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache.parallel import Parallel, split_ranks
from motioncache_eval import team as team_module
from motioncache_eval.command import run_command
from motioncache_eval.team import Team, join_team

Fault = Callable[[Team], None]


def start(folder: Path, fault: Fault) -> tuple[list[int | None], str, list[str]]:
    """Two processes, as `torchrun` starts and ends them: exit codes, what was printed, and which errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run, args=(rank, port, folder, fault)) for rank in range(2)]
    for process in processes:
        process.start()
    until = time.monotonic() + 120
    while any(process.is_alive() for process in processes) and time.monotonic() < until:
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()
        time.sleep(0.05)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    errors = [line for path in sorted(folder.glob("*.err")) for line in path.read_text().splitlines()]
    said = [line for line in errors if line.startswith(("error:", "Traceback"))]
    return codes, "".join(path.read_text() for path in sorted(folder.glob("*.out"))), said


def _run(rank: int, port: int, folder: Path, fault: Fault) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "a-test"}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdout, sys.stderr = ((folder / f"{rank}.{kind}").open("w", buffering=1) for kind in ("out", "err"))
    code = run_command(lambda: _work(fault))
    sys.stdout.flush()
    os._exit(code)


def _work(fault: Fault) -> int:
    with join_team("ulysses", "cpu") as team:
        group = split_ranks(Parallel.ulysses, branches=2, heads=4, device=torch.device("cpu")).world
        print("claimed by", team.decide(lambda: os.environ["RANK"]))
        group.sum(torch.zeros(1))
        fault(team)
        group.sum(torch.zeros(1))
    return 0


@pytest.fixture(autouse=True)
def _grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team_module, "GRACE", 4.0)  # the test ends processes more slowly than torchrun


def test_only_the_first_process_decides_and_speaks(tmp_path: Path) -> None:
    assert start(tmp_path, lambda team: None) == ([0, 0], "claimed by 0\n", [])


@pytest.mark.parametrize("who", [(1,), (0,), (0, 1)], ids=["the second", "the first", "both"])
def test_an_error_ends_all_processes_and_is_said_once(tmp_path: Path, who: tuple[int, ...]) -> None:
    def fault(team: Team) -> None:
        if team.rank in who:
            raise MotionCacheError("the video is too long")

    codes, _, said = start(tmp_path, fault)
    assert said == ["error: the video is too long"]
    assert 0 not in codes
    assert None not in codes


def test_a_process_that_is_killed_ends_all(tmp_path: Path) -> None:
    def fault(team: Team) -> None:
        if team.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    codes, _, said = start(tmp_path, fault)
    assert said == []  # torchrun reports it
    assert codes == [-signal.SIGTERM, -signal.SIGKILL]


def test_an_error_of_a_decision_is_everybodys(tmp_path: Path) -> None:
    def taken() -> None:
        raise MotionCacheError("the folder is taken")

    codes, _, said = start(tmp_path, lambda team: team.decide(taken))
    assert said == ["error: the folder is taken"]
    assert 0 not in codes
