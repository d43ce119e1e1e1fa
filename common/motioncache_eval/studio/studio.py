"""What the page and the HTTP interface stand on: makes videos one at a time, and knows those that were made."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from motioncache.errors import MotionCacheError
from motioncache_eval.outputs import make_folder
from motioncache_eval.studio.history import History
from motioncache_eval.studio.making import Making, Progress
from motioncache_eval.studio.models import Models, Wanted
from motioncache_eval.studio.pages import describe_distance, write_comparison

COMPARISONS = "comparisons"
"""Folder of the pages of two videos, in that of the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two videos beside each other: the name of the page, and how far they are apart, in words."""

    page: str
    distance: str


class Studio:
    """Makes videos for several people, one after another.

    Args:
        output: folder of the history.
    """

    def __init__(self, models: Models, output: Path) -> None:
        self.models = models
        self.history = History(output)
        self._one_at_a_time = Lock()
        self._running: dict[str, Making] = {}
        self._latest: dict[str, Progress] = {}

    def make(self, who: str, wanted: Wanted) -> Iterator[Progress]:
        """Make a video, and tell how far it is; others wait.

        Args:
            who: whose video it is, which `stop` takes.
        """
        with self._one_at_a_time:
            making = Making(self.models.load(wanted), wanted, self.history.output)
            self._running[who] = making
            entry = ""
            try:
                for progress in making:
                    entry = progress.entry
                    self._latest[entry] = progress
                    yield progress
            finally:
                self._running.pop(who, None)
                self._latest.pop(entry, None)

    def stop(self, who: str) -> None:
        """End the video that somebody is making, with the chunks it has; nothing happens if there is none."""
        making = self._running.get(who)
        if making is not None:
            making.stop()

    def progress(self, entry: str) -> Progress | None:
        """How far a video is; None if it is not being made."""
        return self._latest.get(entry)

    def compare(self, reference: str, other: str) -> Comparison:
        """Write the page of two videos of the history.

        Raises:
            MotionCacheError: if one of them does not exist or is not whole, or if their sizes differ.
        """
        first, second = self.history.find(reference), self.history.find(other)
        if first.name == second.name:
            raise MotionCacheError("choose two different videos to compare")
        folder = self.history.output / COMPARISONS
        make_folder(folder)
        name = f"{first.name}--{second.name}.html"
        apart = write_comparison(folder / name, first, second)
        return Comparison(page=name, distance=describe_distance(apart))
