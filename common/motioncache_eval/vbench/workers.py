"""Starts one process per device; all of them end when the process that started them does."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_PATIENCE = 10
"""Seconds that a worker has for its end."""


class Worker:
    """A process on a device, and this process's ends of the pipes to it. See `worker.py`.

    Attributes:
        events: descriptor of the pipe with the worker's answers.
        log: the file that its output is appended to.
    """

    def __init__(self, module: str, device: str, arguments: Sequence[str], *, log: Path, lock: int) -> None:
        """Start the process.

        Args:
            lock: a file descriptor that the worker inherits, so that it holds the lock as long as it lives.
        """
        self.device, self.log = device, log
        self.events, write = os.pipe()
        command = [sys.executable, "-m", "motioncache_eval.vbench.worker", module, device, str(write), *arguments]
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=output, stderr=output, pass_fds=(lock, write)
                )
        finally:
            os.close(write)
        self._unread = b""

    @property
    def id(self) -> int:
        return self._process.pid

    def order(self, order: dict[str, Any]) -> None:
        """Ask for something; a worker that has just died doesn't read it, and its events say so."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def read(self) -> list[dict[str, Any]] | None:
        """The events that have arrived; blocks until there is one, and is None if the worker has ended."""
        piece = os.read(self.events, 65536)
        if not piece:
            return None
        *lines, self._unread = (self._unread + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Tell the worker to end."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> int:
        """Wait for the end of a worker that was told to end, or has ended; return its exit status."""
        self.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self.events)
        return self._process.returncode
