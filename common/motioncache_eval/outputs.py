"""Videos that are either whole or absent, and folders of runs that say whether the run is complete."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file
from motioncache_eval.video import write_mp4

PARTIAL = ".partial"
"""Ends the name of a run's folder until the run is complete."""


def write_video(path: Path, frames: NDArray[np.uint8], *, fps: int) -> None:
    """Write `[frames, height, width, 3]` as MP4, whole or not at all."""
    with whole_file(path) as temporary:
        write_mp4(temporary, frames, fps=fps)


def make_folder(folder: Path) -> None:
    """Make a folder for an `output=`, if there is none yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MotionCacheError(f"output={folder} cannot be written: {error.strerror}; pass another folder") from None


class RunFolder:
    """A new folder for one run. Its name ends with `.partial` until the run is complete.

    Leaving the `with` block on an exception adds to the exception which files are whole; a folder without any is
    removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, output: Path, name: str) -> Self:
        """Make a folder for this moment in `output`; a folder that exists is never touched."""
        make_folder(output)
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
        for attempt in range(100):
            final = output / (stem if not attempt else f"{stem}-{attempt}")
            partial = final.with_name(final.name + PARTIAL)
            if final.exists():
                continue
            try:
                partial.mkdir()
            except FileExistsError:
                continue
            except OSError as error:
                raise MotionCacheError(
                    f"output={output} cannot be written: {error.strerror}; pass another folder"
                ) from None
            return cls(partial)
        raise MotionCacheError(f"{output} holds a hundred runs of this second; wait a moment")

    @property
    def final(self) -> Path:
        """What the folder is called once the run is complete."""
        return self.path.with_name(self.path.name.removesuffix(PARTIAL))

    def complete(self) -> Path:
        """Take `.partial` from the name; return the folder."""
        self.path = self.path.rename(self.final)
        return self.path

    def kept(self) -> str:
        """What is whole, in words."""
        files = sorted(path.name for path in self.path.iterdir() if path.name[0] != ".")
        return f"{', '.join(files)} in {self.path}" if files else "nothing was complete"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        kept = self.kept()
        with suppress(OSError):
            self.path.rmdir()  # only if nothing was written to it
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted; kept: {kept}") from None
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            error = MotionCacheError(f"{error.filename or self.path} cannot be written: {error.strerror or error}")
        if isinstance(error, MotionCacheError):
            raise type(error)(f"{error} (kept: {kept})" if self.path.exists() else str(error)) from None
