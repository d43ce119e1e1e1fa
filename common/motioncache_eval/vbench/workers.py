"""Runs one process per device of this machine; all of them end when the process that started them does."""

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from motioncache_eval.vbench.executor import Event

_PATIENCE = 10
"""Seconds that a worker has for its end."""


ENDED = "the process on {device} ended (exit status {status}); its log is {log}"


class LocalExecutor:
    """Workers of the devices of this machine."""

    def __init__(self, devices: Sequence[str], start: Callable[[int, str], "Worker"]) -> None:
        """
        Args:
            start: starts the worker of a place and its device.
        """
        self.places = devices
        self._start = start
        self._workers: dict[int, Worker] = {}
        self._selector = selectors.DefaultSelector()

    def start(self, place: int) -> None:
        worker = self._workers[place] = self._start(place, self.places[place])
        self._selector.register(worker.events, selectors.EVENT_READ, place)

    def order(self, place: int, order: dict[str, Any]) -> None:
        self._workers[place].order(order)

    def hear(self, seconds: float) -> list[tuple[int, Event]]:
        heard: list[tuple[int, Event]] = []
        for key, _ in self._selector.select(timeout=seconds):
            events = self._workers[key.data].read()
            heard += [(key.data, event) for event in ([self._end(key.data)] if events is None else events)]
        return heard

    def _end(self, place: int) -> Event:
        worker = self._workers.pop(place)
        self._selector.unregister(worker.events)
        status = worker.wait()
        return {"event": "ended", "reason": ENDED.format(device=worker.device, status=status, log=worker.log)}

    def kill(self, place: int) -> None:
        self._workers[place].kill()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        for worker in self._workers.values():
            worker.wait()
        self._selector.close()


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

    def read(self) -> list[Event] | None:
        """The events that have arrived, of which the last may be there in part; None if the worker has ended."""
        piece = os.read(self.events, 65536)
        if not piece:
            return None
        *lines, self._unread = (self._unread + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        self._process.kill()

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
