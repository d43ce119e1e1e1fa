"""Hands out what is to be made to workers that ask for it, and keeps account of what was made and what failed."""

import selectors
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache_eval.vbench.plan import Item
from motioncache_eval.vbench.progress import Progress
from motioncache_eval.vbench.workers import Worker

MOST_TRIES = 3
"""An item that fails so often is given up, and so is a device whose process ends so often before it is ready."""

ENDED = "the process on {device} ended (exit status {status}); its log is {log}"


class Dispatcher:
    """Makes items with one worker per device.

    Attributes:
        failed: the items that were given up, each with the reason of its last failure.
    """

    def __init__(
        self, items: Sequence[Item], devices: Sequence[str], start: Callable[[int, str], Worker], progress: Progress
    ) -> None:
        """
        Args:
            start: starts the worker of a place in `devices`.
        """
        self._waiting = deque(items)
        self._devices, self._start, self._progress = devices, start, progress
        self._tries: Counter[Item] = Counter()
        self._bad_starts: Counter[int] = Counter()
        self._workers: dict[int, Worker] = {}
        self._busy: dict[int, Item] = {}
        self._idle: set[int] = set()
        self._last_end = "no device was named"
        self.failed: dict[Item, str] = {}

    def run(self) -> None:
        """Return when every item is made or given up.

        Raises:
            MotionCacheError: if a worker met a mistake that all items share, or no worker can be started.
        """
        try:
            with selectors.DefaultSelector() as selector:
                for place in range(min(len(self._devices), len(self._waiting))):
                    self._begin(selector, place)
                while self._waiting or self._busy:
                    if not self._workers:
                        raise MotionCacheError(self._last_end)
                    for key, _ in selector.select(timeout=self._progress.interval):
                        self._hear(selector, key.data)
                    self._progress.show(len(self.failed))
        finally:
            for worker in self._workers.values():
                worker.close()
            for worker in self._workers.values():
                worker.wait()

    def _begin(self, selector: selectors.BaseSelector, place: int) -> None:
        worker = self._workers[place] = self._start(place, self._devices[place])
        selector.register(worker.events, selectors.EVENT_READ, place)

    def _hear(self, selector: selectors.BaseSelector, place: int) -> None:
        worker = self._workers[place]
        events = worker.read()
        if events is None:
            selector.unregister(worker.events)
            self._end(place)
            if self._waiting and self._bad_starts[place] < MOST_TRIES:
                self._begin(selector, place)
            return
        for event in events:
            self._handle(place, event)

    def _handle(self, place: int, event: dict[str, Any]) -> None:
        match event["event"]:
            case "ready":
                self._progress.begin()
                self._bad_starts[place] = 0
                self._idle.add(place)
                self._hand_out()
            case "made":
                del self._busy[place]
                self._progress.count()
            case "failed":
                self._fail(self._busy.pop(place), event["reason"])
            case _:
                raise MotionCacheError(event["reason"])

    def _end(self, place: int) -> None:
        """Account for a worker that has ended by itself, which none is told to before the end of the run."""
        worker = self._workers.pop(place)
        status = worker.wait()
        self._last_end = ENDED.format(device=worker.device, status=status, log=worker.log)
        self._idle.discard(place)
        if place in self._busy:
            self._fail(self._busy.pop(place), self._last_end)
        else:
            self._bad_starts[place] += 1

    def _fail(self, item: Item, reason: str) -> None:
        self._tries[item] += 1
        if self._tries[item] == MOST_TRIES:
            self.failed[item] = reason
            self._progress.say(f"{item} is given up, for it failed {MOST_TRIES} times: {reason}")
            return
        self._progress.say(f"{item} failed, and is tried again: {reason}")
        self._waiting.append(item)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            place, item = self._idle.pop(), self._waiting.popleft()
            self._busy[place] = item
            self._workers[place].order(item.to_json())
