"""Starts one process per device; all of them end when the process that started them does."""

import os
import subprocess
import sys
from collections.abc import Sequence

DEVICE = "MOTIONCACHE_VBENCH_DEVICE"
"""Environment variable of a worker process: the device that it samples on."""

_PATIENCE = 10
"""Seconds that a worker has for its end."""


def run_workers(module: str, arguments: Sequence[str], devices: Sequence[str], lock: int) -> list[int]:
    """Run `python -m module arguments` once per device, and wait for all.

    However this process ends, its end of the pipes closes, and with that each worker ends (`worker.py`).

    Args:
        lock: a file descriptor that workers inherit, so that they hold the lock as long as they live.

    Returns:
        The exit statuses.
    """
    command = [sys.executable, "-m", "motioncache_eval.vbench.worker", module, *arguments]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for device in devices:
            environment = os.environ | {DEVICE: device}
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, pass_fds=(lock,)))
        return [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            _await_end(worker)


def _await_end(worker: subprocess.Popen[bytes]) -> None:
    try:
        worker.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
