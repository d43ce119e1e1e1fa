"""A command that `torchrun` has started in several processes, which make one video together."""

import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from motioncache.errors import MotionCacheError
from motioncache.parallel import Parallel, PeerLostError

GRACE = 2.0
"""Seconds in which `torchrun` ends the processes of a command of which one has failed."""

_LONGEST_WAIT = timedelta(hours=2)
"""How long the others wait while the first process decodes and writes a video."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The processes of a command, as one of them sees them.

    Attributes:
        parallel: what they divide; None where there is one process.
        rank, size: place of this process, and how many there are.
        device: of this process, where a job asks for `cuda`.
    """

    parallel: Parallel | None = None
    rank: int = 0
    size: int = 1
    device: str | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and says what happens."""
        return self.rank == 0

    @property
    def command(self) -> list[str]:
        """What starts `motioncache` as it was started."""
        if self.parallel is None:
            return ["motioncache"]
        return ["torchrun", "--nproc-per-node", str(self.size), "-m", "motioncache"]

    def decide(self, function: Callable[[], _Value]) -> _Value:
        """What a function gives in the first process, which alone runs it; its error is everybody's."""
        if self.parallel is None:
            return function()
        answer: list[Any] = [None]
        if self.leads:
            try:
                answer = [(function(), None)]
            except MotionCacheError as error:
                answer = [(None, error)]
        dist.broadcast_object_list(answer)
        value, error = answer[0]
        if error is not None:
            raise error
        return value


ALONE = Team()


@contextmanager
def join_team(parallel: str | None, device: str) -> Generator[Team]:
    """The processes that make a video together, until the block ends. What others than the first print is dropped.

    Raises:
        MotionCacheError: if there is one process and several are needed, or the other way round.
    """
    size, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    if parallel is None:
        if size > 1:
            raise MotionCacheError(f"there are {size} processes, and nothing to divide: pass parallel=ulysses or cfg")
        yield ALONE
        return
    divided = Parallel.of(parallel)
    if size == 1:
        raise MotionCacheError(
            f"parallel={parallel} divides a video among several processes, and there is one: start the command with "
            "`torchrun --nproc-per-node N -m motioncache ...`"
        )
    team = Team(parallel=divided, rank=rank, size=size, device=_own_device(device))
    dist.init_process_group("cpu:gloo,cuda:nccl" if team.device else "gloo", timeout=_LONGEST_WAIT)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(sys.stdout if team.leads else nowhere):
        yield team
    dist.barrier()
    dist.destroy_process_group()


def _own_device(device: str) -> str | None:
    """The GPU of this process."""
    if not device.startswith("cuda"):
        return None
    if device != "cuda":
        raise MotionCacheError(f"device={device}: every process has a GPU of its own; pass device=cuda")
    place, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= count:
        raise MotionCacheError(f"there are more processes than GPUs, of which this machine has {count}: start {count}")
    torch.cuda.set_device(place)
    return f"cuda:{place}"


def wait_to_speak(error: BaseException) -> None:
    """Let the process speak that knows best what has happened: `torchrun` ends the others before it is their turn.

    An error that all processes have is said by the first one. A process that has lost another one says so last.
    """
    own_turn = 0.0 if os.environ.get("RANK") == "0" else GRACE
    time.sleep(own_turn + (2 * GRACE if isinstance(error, PeerLostError) else 0.0))
