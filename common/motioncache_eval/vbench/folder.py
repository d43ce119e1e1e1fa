"""The output folder: videos, those that are not whole yet, the record of the settings, and the lock.

videos/SUITE/PROMPT-N.mp4    whole videos, and nothing else
partial/                     videos that are being written
set-aside/TIME/SUITE/        files that lay where a video should be, and were no whole videos
settings.json, prompts.json  what the videos were made with
lock                         names the run that holds the folder
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_eval.vbench.check import VideoSize, video_fault
from motioncache_eval.vbench.lock import locked, try_lock
from motioncache_eval.vbench.prompts import Video
from motioncache_eval.vbench.record import Record, keep_prompts, keep_settings


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The places in an output folder, and what is done to it as a whole.

    All methods raise a MotionCacheError of one line if the folder cannot be read or written.
    """

    root: Path

    @property
    def videos(self) -> Path:
        return self.root / "videos"

    @property
    def partial(self) -> Path:
        return self.root / "partial"

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts.json"

    def path(self, video: Video) -> Path:
        """The file in which VBench looks for a video; the folder of a suite holds nothing but videos."""
        return self.videos / video.suite / video.name

    def partial_path(self, video: Video) -> Path:
        """The file that a video is written to, which is short whatever the prompt."""
        digest = hashlib.sha256(f"{video.suite}/{video.name}".encode()).hexdigest()[:24]
        return self.partial / f"{digest}.mp4"

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the folder; yields the descriptor that keeps it held in a process that inherits it."""
        with ExitStack() as stack:
            with self.errors():
                self.root.mkdir(parents=True, exist_ok=True)
                self.partial.mkdir(exist_ok=True)
                descriptor = stack.enter_context(locked(self.root / "lock", f"output={self.root}"))
            yield descriptor

    def prepare(self, settings: Record, videos: Sequence[Video]) -> None:
        """Refuse videos of other settings and prompts; make the folders, and clear away what nobody writes any more."""
        with self.errors():
            self._check_records()
            keep_settings(self.settings, settings)
            prompts: dict[str, dict[str, str]] = {}
            for video in videos:
                prompts.setdefault(video.suite, {})[video.short] = video.prompt
            keep_prompts(self.prompts, prompts)
            for suite in prompts:
                (self.videos / suite).mkdir(parents=True, exist_ok=True)
            for path in self.partial.glob("*.mp4"):
                _remove_unowned(path)

    def _check_records(self) -> None:
        """Refuse videos without records; remove records without videos, which nothing was made with."""
        made = any(self.videos.glob("*/*"))
        for path in (self.settings, self.prompts):
            if not made:
                path.unlink(missing_ok=True)
            elif not path.exists():
                raise MotionCacheError(
                    f"{self.videos} holds videos, but there is no {path.name}, so nobody knows how they were made; "
                    "pass another output="
                )

    def find_missing(self, videos: Sequence[Video], size: VideoSize) -> list[Video]:
        """The videos that have no whole file; files that are no whole videos are set aside."""
        missing: list[Video] = []
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        with self.errors():
            for video in videos:
                path = self.path(video)
                if not path.exists():
                    missing.append(video)
                    continue
                if not path.is_file():
                    raise MotionCacheError(f"{path} is no file, and a video belongs there: move it away")
                fault = video_fault(path, size)
                if fault is not None:
                    aside = self.root / "set-aside" / stamp / video.suite
                    aside.mkdir(parents=True, exist_ok=True)
                    path.replace(aside / path.name)
                    print(f"{path.name} is made again, for {fault}; it lies in {aside} now")
                    missing.append(video)
        return missing

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the file system into one line."""
        try:
            yield
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise MotionCacheError(
                f"output={self.root} cannot be used: {error.strerror}{where}; make it writable, or pass another folder"
            ) from None


def _remove_unowned(path: Path) -> None:
    """Remove a file that no process has locked."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        if try_lock(descriptor):
            path.unlink()
    finally:
        os.close(descriptor)
