"""Several processes of one command, as `torchrun` starts them: what is said, and by whom, when something goes wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import os, signal, sys
import torch
from motioncache.errors import MotionCacheError
from motioncache.parallel import Parallel, split_ranks
from motioncache_eval.command import run_command
from motioncache_eval.team import join_team

def work():
    with join_team("ulysses", "cpu") as team:
        group = split_ranks(Parallel.ulysses, branches=2, heads=4, device=torch.device("cpu")).world
        claimed = team.decide(lambda: f"claimed by {os.environ['RANK']}")
        print(claimed, "in", os.environ["RANK"], flush=True)
        group.sum(torch.zeros(1))
        fault(team)
        group.sum(torch.zeros(1))
    return 0

def fault(team):
    FAULT

sys.exit(run_command(work))
"""


def start(folder: Path, fault: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    script = folder / "work.py"
    script.write_text(WORK.replace("FAULT", fault))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), str(script)]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=150, check=False)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("error:")]


def test_only_the_first_process_decides_and_speaks(tmp_path: Path) -> None:
    done = start(tmp_path, "pass")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["claimed by 0 in 0"]


@pytest.mark.parametrize("who", ["team.rank == 1", "team.rank == 0", "True"], ids=["the second", "the first", "both"])
def test_an_error_ends_all_processes_and_is_said_once(tmp_path: Path, who: str) -> None:
    done = start(tmp_path, f"if {who}: raise MotionCacheError('the video is too long')")
    assert done.returncode != 0
    assert lines(done) == ["error: the video is too long"]


def test_a_process_that_is_killed_ends_all(tmp_path: Path) -> None:
    done = start(tmp_path, "if team.rank == 1: os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode != 0
    assert lines(done) == []
    assert "Signal 9 (SIGKILL)" in done.stderr  # torchrun's own report


def test_an_error_of_the_first_alone_in_a_decision_is_everybodys(tmp_path: Path) -> None:
    wrong = "def no(): raise MotionCacheError('the folder is taken')\n    team.decide(no)"
    done = start(tmp_path, wrong)
    assert done.returncode != 0
    assert lines(done) == ["error: the folder is taken"]
