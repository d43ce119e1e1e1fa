"""How a video gets into its folder: a worker delivers it, and the process of the run checks it and enters it.

That process alone, which holds the lock of the folder, enters videos and gives them their names. A worker that outlives
its run, on a machine that was cut off for example, can leave a file in `partial/`, and nothing else.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.sampling import Sample
from motioncache_eval.vbench.check import VideoSize, video_fault
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.manifest import Entry, add_entry, describe_file
from motioncache_eval.vbench.prompts import Video
from motioncache_eval.video import to_uint8, write_mp4


class UnusableFolderError(MotionCacheError):
    """The disk is full or gone, which no other item would fare better with."""

    @classmethod
    def because(cls, error: OSError, item: object, output: Path) -> "UnusableFolderError":
        return cls(
            f"{item} cannot be written to output={output}: {error.strerror or error}; free some space, and start "
            "again to make what is missing"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A video as its worker made it.

    Attributes:
        partial: the file's name in `partial/`; None where its content is sent.
        content: of the file, from a worker that does not see the folder.
        size, sha256, seconds, seed, flops: see `Entry`.
    """

    size: int
    sha256: str
    seconds: float
    seed: int
    flops: int | None = None
    partial: str | None = None
    content: bytes | None = None


def deliver(
    folder: OutputFolder | None, video: Video, job: Any, sample: Sample, frames: torch.Tensor
) -> Delivery | str:
    """Write a video to a file of its own; return what is wrong with it, if it is not whole.

    Args:
        folder: None writes to a temporary folder, and sends the content.
        frames: float `[frames, 3, height, width]` in [0, 1].
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return _write(Path(temporary) / "video.mp4", job, sample, frames, send=True)
    partial, whole = folder.new_partial(video), False
    try:
        made = _write(partial, job, sample, frames, send=False)
        whole = isinstance(made, Delivery)
        return made
    finally:
        if not whole:
            partial.unlink(missing_ok=True)


def _write(path: Path, job: Any, sample: Sample, frames: torch.Tensor, *, send: bool) -> Delivery | str:
    write_mp4(path, to_uint8(frames), fps=job.fps)
    fault = video_fault(path, VideoSize(frames=job.num_frames, height=job.height, width=job.width))
    if fault is not None:
        return f"{fault}; try dtype=float32 or another preset"
    size, digest = describe_file(path)
    return Delivery(
        size=size,
        sha256=digest,
        seconds=sample.seconds,
        seed=job.seed,
        flops=None if sample.summary is None else sample.summary.flops,
        partial=None if send else path.name,
        content=path.read_bytes() if send else None,
    )


def accept(folder: OutputFolder, video: Video, delivery: Delivery) -> str | None:
    """Enter a video, and give it its name, if it has arrived as it was sent; otherwise return what is wrong.

    Each is on the disk before the next begins: the file, its entry, its name.
    """
    partial = folder.partial / delivery.partial if delivery.partial else folder.new_partial(video)
    try:
        if delivery.content is not None:
            partial.write_bytes(delivery.content)
        if not partial.exists():
            return f"{partial} has not arrived; is {folder.partial} the same folder where the worker is?"
        size, digest = describe_file(partial)
        if (size, digest) != (delivery.size, delivery.sha256):
            return f"{size} bytes arrived of {delivery.size}, or others than were sent"
        synchronise(partial)
        entry = Entry(
            video=video.key,
            size=size,
            sha256=digest,
            seconds=delivery.seconds,
            seed=delivery.seed,
            flops=delivery.flops,
        )
        add_entry(folder.manifest, entry)
        partial.replace(folder.path(video))
        synchronise(folder.path(video).parent)
    finally:
        partial.unlink(missing_ok=True)
    return None


def synchronise(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
