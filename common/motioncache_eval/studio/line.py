"""The line in front of the studio: videos that wait, those that are made, and who follows them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from motioncache.errors import MotionCacheError
from motioncache_eval.studio.making import TURN, Making, Progress
from motioncache_eval.studio.models import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A video that is not begun yet: how many are before it."""

    before: int


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """A video that waits or is made, and what is told of it, which ends with an error or with None."""

    who: str
    wanted: Wanted
    making: Making | None = None
    told: "SimpleQueue[Progress | BaseException | None]" = field(default_factory=SimpleQueue)
    latest: Progress | None = None
    followed: bool = True

    def tell(self, what: Progress | BaseException | None) -> None:
        """Tell whoever follows; where nobody does any more, nothing piles up."""
        if self.followed:
            self.told.put(what)


class Line:
    """Makes videos in the order in which they were asked for: one at a time on each device.

    A video goes on when nobody follows it any more; one that still waits then gives up its place.

    Args:
        begin: loads what a video needs on a device, and begins it.
        devices: one worker each; None leaves the choice to the job.
        most: videos that may wait.
    """

    def __init__(self, begin: Callable[[Wanted, str | None], Making], devices: Sequence[str | None], most: int) -> None:
        self._begin = begin
        self._devices = devices
        self._most = most
        self._waiting: deque[_Place] = deque()
        self._made: list[_Place] = []
        self._changed = Condition()
        self._workers: list[Thread] = []

    def follow(self, who: str, wanted: Wanted) -> Iterator[Progress | Waiting]:
        """Take a place, and tell what happens until the video is whole or was stopped.

        Raises:
            MotionCacheError: if too many wait, if the video was stopped before it began, or if it cannot be made.
        """
        place = self._enter(who, wanted)
        try:
            yield from self._tell(place)
        finally:
            self._leave(place)

    def stop(self, who: str) -> None:
        """End the videos of somebody: one that is made keeps the chunks it has, one that waits is not begun."""
        with self._changed:
            for place in [place for place in self._waiting if place.who == who]:
                self._waiting.remove(place)
                place.tell(MotionCacheError("stopped before it began; nothing is kept"))
            for place in self._made:
                if place.who == who and place.making is not None:
                    place.making.stop()

    def making(self, entry: str) -> tuple[Making, Progress] | None:
        """A video that is being made, by its name in the history."""
        with self._changed:
            for place in self._made:
                latest = place.latest
                if place.making is not None and latest is not None and latest.entry == entry and not latest.finished:
                    return place.making, latest
        return None

    def _enter(self, who: str, wanted: Wanted) -> _Place:
        place = _Place(who=who, wanted=wanted)
        with self._changed:
            if len(self._waiting) >= self._most:
                raise MotionCacheError(f"{self._most} videos wait already, and no more may: try again in a while")
            self._waiting.append(place)
            if not self._workers:
                self._workers = [Thread(target=self._work, args=(one,), daemon=True) for one in self._devices]
                for worker in self._workers:
                    worker.start()
            self._changed.notify()
        return place

    def _leave(self, place: _Place) -> None:
        with self._changed:
            place.followed = False
            if place in self._waiting:
                self._waiting.remove(place)

    def _tell(self, place: _Place) -> Iterator[Progress | Waiting]:
        before = -1
        while True:
            try:
                told = place.told.get(timeout=TURN)
            except Empty:
                before, last = self._before(place), before
                if before not in (None, last):
                    yield Waiting(before=before)
                continue
            if isinstance(told, BaseException):
                raise told
            if told is None:
                return
            yield told

    def _before(self, place: _Place) -> int | None:
        """Videos that are to be made before one; None if it is begun."""
        with self._changed:
            return len(self._made) + self._waiting.index(place) if place in self._waiting else None

    def _work(self, device: str | None) -> None:
        """Make one video after another; runs in a thread for each device."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                place = self._waiting.popleft()
                self._made.append(place)
            try:
                place.making = self._begin(place.wanted, device)
                for progress in place.making:
                    place.latest = progress
                    place.tell(progress)
                place.tell(None)
            except BaseException as error:  # belongs to whoever follows
                place.tell(error)
            finally:
                with self._changed:
                    self._made.remove(place)
