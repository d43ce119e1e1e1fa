"""What the page and the HTTP interface stand on: makes videos in turn, and knows those that were made."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from motioncache.errors import MotionCacheError
from motioncache_eval.outputs import make_folder
from motioncache_eval.studio.estimate import Estimate, estimate
from motioncache_eval.studio.history import History
from motioncache_eval.studio.line import Line, Waiting
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
    psnr_db: float
    ssim: float


class Studio:
    """Makes videos for several people, in turn, and keeps them.

    Args:
        output: folder of the history.
        devices: see `Line`.
        most: videos that may wait.
    """

    def __init__(
        self, models: Models, output: Path, *, devices: Sequence[str | None] = (None,), most: int = 16
    ) -> None:
        self.models = models
        self.history = History(output)
        self._comparing = Lock()
        self._line = Line(self._begin, devices, most)

    def _begin(self, wanted: Wanted, device: str | None) -> Making:
        placed = wanted if device is None else wanted.on(device)
        cost = self.models.cost(placed)
        return Making(self.models.load(placed), placed, self.history.output, None if cost is None else cost.flops)

    def make(self, who: str, wanted: Wanted) -> Iterator[Progress | Waiting]:
        """Make a video, and tell how far it is; see `Line.follow`.

        Args:
            who: whose video it is, which `stop` takes.
        """
        return self._line.follow(who, wanted)

    def stop(self, who: str) -> None:
        """End what somebody has asked for; see `Line.stop`."""
        self._line.stop(who)

    def estimate(self, wanted: Wanted) -> Estimate:
        """What a video will take."""
        return estimate(wanted, self.models.cost(wanted), self.history.entries())

    def progress(self, entry: str) -> Progress | None:
        """How far a video is; None if it is not being made."""
        found = self._line.making(entry)
        return None if found is None else found[1]

    def weights(self, entry: str, part: int) -> dict[str, object] | None:
        """Motion weights over the frames of a chunk of a video that is being made; see `Making.weights`."""
        found = self._line.making(entry)
        return None if found is None else found[0].weights(part)

    def remove(self, entry: str) -> None:
        """Delete a video of the history.

        Raises:
            MotionCacheError: if there is none of this name, or it is being made.
        """
        if self._line.making(entry) is not None:
            raise MotionCacheError(f"{entry} is being made: stop it first")
        self.history.remove(entry)

    def compare(self, reference: str, other: str) -> Comparison:
        """Write the page of two videos of the history.

        Raises:
            MotionCacheError: if one of them does not exist or is not whole, or if their sizes differ.
        """
        first, second = self.history.find(reference), self.history.find(other)
        if first.name == second.name:
            raise MotionCacheError("choose two different videos to compare")
        folder, name = self.history.output / COMPARISONS, f"{first.name}--{second.name}.html"
        make_folder(folder)
        with self._comparing:  # whole videos are in memory
            apart = write_comparison(folder / name, first, second)
        return Comparison(page=name, distance=describe_distance(apart), psnr_db=apart.psnr_db, ssim=apart.ssim)
