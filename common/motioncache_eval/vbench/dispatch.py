"""Hands out what is to be made to workers that ask for it, and keeps account of what was made and what failed."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from motioncache.errors import MotionCacheError
from motioncache_eval.vbench.executor import Event, Executor
from motioncache_eval.vbench.patience import Patience
from motioncache_eval.vbench.plan import Item
from motioncache_eval.vbench.progress import Progress

MOST_TRIES = 3
"""An item that fails so often is given up, and so is a place whose worker ends so often before it is ready."""


class Dispatcher:
    """Makes items with the workers of an executor.

    Attributes:
        failed: the items that were given up, each with the reason of its last failure.
    """

    def __init__(
        self,
        items: Sequence[Item],
        executor: Executor,
        accept: Callable[[Item, Event], str | None],
        progress: Progress,
        patience: Patience,
    ) -> None:
        """
        Args:
            accept: takes what a worker has made; returns what is wrong with it.
        """
        self._waiting = deque(items)
        self._executor, self._accept, self._progress, self._patience = executor, accept, progress, patience
        self._tries: Counter[Item] = Counter()
        self._bad_starts: Counter[int] = Counter()
        self._started: set[int] = set()
        self._busy: dict[int, tuple[Item, float]] = {}
        self._late: dict[int, str] = {}
        self._idle: set[int] = set()
        self._last_end = "no device was named"
        self.failed: dict[Item, str] = {}

    def run(self) -> None:
        """Return when every item is made or given up.

        Raises:
            MotionCacheError: if a worker met a mistake that all items share, or no worker can be started.
        """
        try:
            for place in range(min(len(self._executor.places), len(self._waiting))):
                self._begin(place)
            while self._waiting or self._busy:
                if not self._started:
                    raise MotionCacheError(self._last_end)
                for place, event in self._executor.hear(self._until_late()):
                    self._handle(place, event)
                self._end_late()
                self._progress.show(len(self.failed))
        finally:
            self._executor.close()

    def _begin(self, place: int) -> None:
        self._started.add(place)
        self._executor.start(place)

    def _handle(self, place: int, event: Event) -> None:
        match event["event"]:
            case "ready":
                self._progress.begin()
                if "where" in event:
                    self._progress.say(f"worker {place} is ready: {event['where']}")
                self._bad_starts[place] = 0
                self._idle.add(place)
                self._hand_out()
            case "made":
                self._take(place, event)
            case "failed":
                self._fail(self._no_longer_busy(place)[0], event["reason"])
            case "ended":
                self._end(place, event["reason"])
            case _:
                raise MotionCacheError(event["reason"])

    def _take(self, place: int, event: Event) -> None:
        item, since = self._no_longer_busy(place)
        self._patience.note(time.monotonic() - since)
        wrong = self._accept(item, event)
        if wrong is None:
            self._progress.count()
        else:
            self._fail(item, wrong)

    def _no_longer_busy(self, place: int) -> tuple[Item, float]:
        self._late.pop(place, None)
        return self._busy.pop(place)

    def _end(self, place: int, reason: str) -> None:
        """Account for a worker that has ended, which none is told to before the end of the run."""
        self._started.discard(place)
        self._idle.discard(place)
        self._last_end = reason
        if place in self._busy:
            reason = self._late.get(place, reason)
            self._fail(self._no_longer_busy(place)[0], reason)
        else:
            self._bad_starts[place] += 1
        if self._waiting and self._bad_starts[place] < MOST_TRIES:
            self._begin(place)

    def _until_late(self) -> float:
        """Seconds in which no item becomes late, and no line is due."""
        limit, now = self._patience.seconds, time.monotonic()
        lines = self._progress.interval
        due = [] if limit is None else [since + limit - now for place, (_, since) in self._busy.items()]
        return min([lines, *(seconds for seconds in due if seconds > 0)])

    def _end_late(self) -> None:
        """Kill workers that take longer for an item than any should; their end is heard as any other."""
        limit = self._patience.seconds
        for place, (_, since) in self._busy.items():
            if limit is not None and place not in self._late and time.monotonic() - since >= limit:
                self._late[place] = f"it was not made within {limit:.4g} s, and its worker was ended"
                self._executor.kill(place)

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
            self._busy[place] = item, time.monotonic()
            self._executor.order(place, item.to_json())
