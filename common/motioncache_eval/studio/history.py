"""The videos that were made, on disk: a folder for each, with the video, its chunks and the settings."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache_eval.demo_results import describe_policy
from motioncache_eval.generate import SETTINGS, settings_of
from motioncache_eval.outputs import PARTIAL, RunFolder
from motioncache_eval.page.view import decisions
from motioncache_eval.report import environment, write_json
from motioncache_eval.sampling import Sample
from motioncache_eval.studio.models import Wanted
from motioncache_eval.video import read_video, write_lossless

VIDEO = "video"
"""Stem of the files of a video, as `generate` would name them."""

ASKED = "asked"
"""Stem of the file that says what was asked for; it is there before anything is made."""

FRAMES = "frames.mkv"
"""The frames as they were made, to compare with: the MP4 is lossy."""

PAGE = "page.html"

GIVEN = ("image", "video")
"""Settings that name a file which a video starts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A video of the history.

    Attributes:
        name: of its folder.
        report: the content of its JSON file; of one that was interrupted, only what was asked for.
        parts: its chunks as videos, in order.
    """

    name: str
    folder: Path
    report: dict[str, Any]
    parts: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return (self.folder / f"{VIDEO}.mp4").is_file()

    @property
    def state(self) -> str:
        if not self.whole:
            return "interrupted"
        return "stopped" if self.report.get("stopped") else "complete"

    def frames(self) -> NDArray[np.uint8]:
        """The frames as they were made, uint8 `[frames, height, width, 3]`."""
        if not (self.folder / FRAMES).is_file():
            raise MotionCacheError(f"{self.name} was interrupted, and has no whole video to compare")
        return read_video(self.folder / FRAMES)


class History:
    """The entries in a folder, of which other processes may make some at the same time."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def entries(self) -> list[Entry]:
        """All entries, the newest first."""
        return sorted(self._read(), key=lambda entry: entry.name, reverse=True)

    def find(self, name: str) -> Entry:
        """An entry by its name, which is never taken as a path.

        Raises:
            MotionCacheError: if there is none.
        """
        for entry in self._read():
            if entry.name == name:
                return entry
        raise MotionCacheError(f"there is no video {name!r} in the history")

    def remove(self, name: str) -> None:
        """Delete an entry and its files."""
        shutil.rmtree(self.find(name).folder)

    def _read(self) -> Iterator[Entry]:
        if not self.output.is_dir():
            return
        for folder in self.output.iterdir():
            asked = _read_json(folder / f"{ASKED}.json")
            if folder.is_symlink() or asked is None:
                continue
            report = _read_json(folder / f"{VIDEO}.json")
            parts = tuple(sorted(path.name for path in folder.glob("part-*.mp4")))
            yield Entry(
                name=folder.name.removesuffix(PARTIAL),
                folder=folder,
                report=report or asked,
                parts=parts,
            )


def begin_entry(output: Path, wanted: Wanted) -> RunFolder:
    """A folder for a video that is about to be made, with what was asked for and the files that it starts from."""
    run = RunFolder.create(output, wanted.preset)
    for key in GIVEN:
        source = getattr(wanted.job, key, None)
        if source is not None:
            shutil.copyfile(source, run.path / _given(key, source))
    asked = {"prompt": wanted.job.prompt, "model": wanted.model, "preset": wanted.preset, "config": asdict(wanted.job)}
    write_json(run.path / f"{ASKED}.json", asked)
    write_json(run.path / f"{SETTINGS}.json", settings_of(wanted.job, wanted.policy))
    return run


def abandon_entry(run: RunFolder) -> None:
    """Delete what was begun and holds nothing to watch."""
    for path in run.path.iterdir():
        path.unlink()


def complete_entry(
    run: RunFolder, wanted: Wanted, sample: Sample, frames: NDArray[np.uint8], *, stopped: bool, flops: int | None
) -> dict[str, Any]:
    """Write the frames and the figures of a video, and return the figures.

    Args:
        sample: has no latents of use here.
        flops: of the whole video without a cache, if they are known.
    """
    write_lossless(run.path / FRAMES, frames, fps=wanted.job.fps)
    given = {key: str(run.final / _given(key, getattr(wanted.job, key))) for key in GIVEN if _starts_from(wanted, key)}
    report = _report(wanted, sample, frames, stopped=stopped, flops=flops)
    report["config"] |= given
    write_json(run.path / f"{VIDEO}.json", report)
    return report


def _starts_from(wanted: Wanted, key: str) -> bool:
    return getattr(wanted.job, key, None) is not None


def _given(key: str, source: str) -> str:
    """The name of a file that a video starts from; of the name it had, only a plain ending is kept."""
    ending = Path(source).suffix.lower()
    return f"given-{key}{ending if re.fullmatch(r'[.][a-z0-9]{1,5}', ending) else ''}"


def _report(
    wanted: Wanted, sample: Sample, frames: NDArray[np.uint8], *, stopped: bool, flops: int | None
) -> dict[str, Any]:
    summary, uncached = sample.summary, None if stopped or wanted.policy is not None else flops
    return {
        "prompt": wanted.job.prompt,
        "model": wanted.model,
        "preset": wanted.preset,
        "stopped": stopped,
        "frames": len(frames),
        "config": asdict(wanted.job),
        "policy": describe_policy(wanted.policy),
        **environment(wanted.job.device),
        "seconds": sample.seconds,
        "flops": uncached if summary is None else summary.flops,
        "vanilla_flops": uncached if summary is None else summary.vanilla_flops,
        "summary": None if summary is None else asdict(summary),
        "decisions": [] if sample.trace is None else decisions(sample.trace),
    }


def _read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
