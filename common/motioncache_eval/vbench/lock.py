"""Locks that the operating system frees when their owner dies, however it dies."""

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from motioncache.errors import MotionCacheError

_PATIENCE = 5.0
"""Seconds to wait for the lock: the workers of a run that was killed hold it until they have ended."""


@contextmanager
def locked(path: Path, name: str) -> Iterator[int]:
    """Hold a lock, and yield its file descriptor; processes that inherit that hold the lock, too.

    Args:
        path: the file of the lock, which stays when the lock is freed.
        name: what the lock protects, for the error.

    Raises:
        MotionCacheError: if another process holds the lock; it says which.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise MotionCacheError(
                    f"{name} is in use by {_holder(path)}: wait until it has ended, end it, or pass another folder"
                )
            time.sleep(0.1)
        holder = {"process": os.getpid(), "machine": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file if no other process has; closing it frees the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    """The process that a lock's file names."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['machine']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
