"""The output folder of a preset: videos, those that are not whole yet, the manifest, and the record of the settings.

videos/SUITE/PROMPT-N.mp4    whole videos, and nothing else
manifest.jsonl               what is known of each
partial/                     videos that are being written
set-aside/TIME/SUITE/        files that lay where a video should be, and were no whole videos
settings.json, prompts.json  what the videos were made with
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_eval.kept_settings import Record, keep_settings, require_records
from motioncache_eval.vbench.check import decoding_fault
from motioncache_eval.vbench.lock import locked
from motioncache_eval.vbench.manifest import file_fault, read_manifest
from motioncache_eval.vbench.prompts import Video
from motioncache_eval.vbench.record import keep_prompts


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
    def manifest(self) -> Path:
        return self.root / "manifest.jsonl"

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts.json"

    def path(self, video: Video) -> Path:
        """The file in which VBench looks for a video; the folder of a suite holds nothing but videos."""
        return self.videos / video.suite / video.name

    def new_partial(self, video: Video) -> Path:
        """A file to write a video to, which is short whatever the prompt, and which nobody else writes to."""
        digest = hashlib.sha256(f"{video.suite}/{video.name}".encode()).hexdigest()[:24]
        return self.partial / f"{digest}-{secrets.token_hex(8)}.mp4"

    def prepare(self, settings: Record, videos: Sequence[Video]) -> None:
        """Refuse videos of other settings and prompts; make the folders, and clear away what was not finished.

        The run holds the lock of the folder above, so nobody writes here.
        """
        with self.errors():
            self.partial.mkdir(parents=True, exist_ok=True)
            made = any(self.videos.glob("*/*"))
            require_records(self.videos, made, self.settings, self.prompts, self.manifest)
            keep_settings(self.settings, settings)
            prompts: dict[str, dict[str, str]] = {}
            for video in videos:
                prompts.setdefault(video.suite, {})[video.short] = video.prompt
            keep_prompts(self.prompts, prompts)
            for suite in prompts:
                (self.videos / suite).mkdir(parents=True, exist_ok=True)
            for path in (*self.partial.iterdir(), *self.root.glob(".*.json")):  # the latter by `whole_file`
                path.unlink()

    def find_missing(self, videos: Sequence[Video], *, decode: bool = False) -> list[Video]:
        """The videos that have no file as the manifest describes it; other files are set aside.

        Args:
            decode: a file that cannot be decoded does not count, either.
        """
        missing: list[Video] = []
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        with self.errors():
            entries = read_manifest(self.manifest)
            for video in videos:
                path = self.path(video)
                if not path.exists():
                    missing.append(video)
                    continue
                if not path.is_file():
                    raise MotionCacheError(f"{path} is no file, and a video belongs there: move it away")
                fault = file_fault(path, entries.get(video.key)) or (decoding_fault(path) if decode else None)
                if fault is not None:
                    aside = self.root / "set-aside" / stamp / video.suite
                    aside.mkdir(parents=True, exist_ok=True)
                    path.replace(aside / path.name)
                    print(f"{path.name} is made again, for {fault}; it lies in {aside} now")
                    missing.append(video)
        return missing

    def errors(self) -> AbstractContextManager[None]:
        """Turn errors of the file system into one line."""
        return explain_errors(self.root)


@contextmanager
def hold(output: Path) -> Iterator[int]:
    """Hold the folder of a run; yields the descriptor that keeps it held in a process that inherits it."""
    with ExitStack() as stack:
        with explain_errors(output):
            output.mkdir(parents=True, exist_ok=True)
            descriptor = stack.enter_context(locked(output / "lock", f"output={output}"))
        yield descriptor


@contextmanager
def explain_errors(output: Path) -> Iterator[None]:
    """Turn errors of the file system into one line."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise MotionCacheError(
            f"output={output} cannot be used: {error.strerror}{where}; make it writable, or pass another folder"
        ) from None
