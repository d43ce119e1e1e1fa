"""Runs a function in several processes that `torch.distributed` connects, on the CPU."""

import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

LONGEST = 600
"""Seconds after which the processes are ended."""


def run_on_ranks(size: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """What `work(*args)` returns in each of so many processes; an exception in one of them is raised here."""
    context = multiprocessing.get_context("fork")  # nothing is imported once more
    with tempfile.TemporaryDirectory() as folder:
        processes, readers = [], []
        for rank in range(size):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(rank, size, Path(folder) / "store", writer, work, args))
            process.start()
            writer.close()
            processes.append(process)
            readers.append(reader)
        try:
            return [_result(rank, reader) for rank, reader in enumerate(readers)]
        finally:
            for process in processes:
                process.kill()
                process.join()


def _result(rank: int, reader: Any) -> Any:
    if not reader.poll(LONGEST):
        raise AssertionError(f"process {rank} has not ended in {LONGEST} seconds")
    try:
        done, value = pickle.loads(reader.recv_bytes())
    except EOFError:
        raise AssertionError(f"process {rank} has ended without a result") from None
    if not done:
        raise AssertionError(f"process {rank}: {value}")
    return value


def _run(rank: int, size: int, store: Path, writer: Any, work: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    try:
        result = (True, work(*args))
    except BaseException:
        result = (False, traceback.format_exc())
    writer.send_bytes(pickle.dumps(result))
    writer.close()
    dist.barrier()
    dist.destroy_process_group()
