"""A process that makes what the process that started it asks for, one thing after another, and ends with it.

The command is `python -m motioncache_eval.vbench.worker MODULE DEVICE EVENTS [ARGUMENT ...]`: it calls
`MODULE.work(channel, device, arguments)`. Its standard input is a pipe with one JSON object a line, which closes when
the process at its other end ends, even by SIGKILL; EVENTS is the descriptor of a pipe for its answers. This module
imports nothing that takes time, so it watches while others are imported.
"""

import json
import os
import signal
import sys
import threading
from importlib import import_module
from queue import SimpleQueue
from typing import Any


class Channel:
    """A worker's ends of the two pipes."""

    def __init__(self, orders: int, events: int) -> None:
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._events = events
        threading.Thread(target=self._watch, args=(orders,), daemon=True).start()

    def next_order(self) -> Any:
        """Say that this worker is ready, and wait for something to make."""
        self.send(event="ready")
        return self._orders.get()

    def send(self, **event: Any) -> None:
        line = json.dumps(event).encode() + b"\n"
        while line:
            line = line[os.write(self._events, line) :]

    def _watch(self, orders: int) -> None:
        with os.fdopen(orders, encoding="utf-8") as lines:
            for line in lines:
                self._orders.put(json.loads(line))
        os._exit(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the process that started this one acts
    orders = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    module, device, events, *arguments = sys.argv[1:]
    channel = Channel(orders, int(events))
    import_module(module).work(channel, device, arguments)


if __name__ == "__main__":
    main()
