"""Makes the videos that are missing; any number of processes share them, and none is made twice."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from motioncache.errors import MotionCacheError
from motioncache_eval.vbench.check import VideoSize, video_fault
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.lock import try_lock
from motioncache_eval.vbench.prompts import Video
from motioncache_eval.video import to_uint8, write_mp4

MOST_IN_A_ROW = 3
"""So many faulty videos in a row end a process: the next ones would be faulty, too."""


def make_videos(
    videos: Sequence[Video],
    folder: OutputFolder,
    make: Callable[[Video], torch.Tensor],
    *,
    size: VideoSize,
    fps: int,
    name: str,
) -> None:
    """Make all videos that no other process has made or is making.

    Args:
        make: samples a video, float `[frames, 3, height, width]` in [0, 1].
        name: of this process, for the progress bar.

    Raises:
        MotionCacheError: in the end, if some videos were faulty, or if the folder cannot be written.
    """
    faults: list[str] = []
    in_a_row = 0
    for video in tqdm(videos, desc=name, unit="video"):
        with folder.errors(), claimed(folder.partial_path(video), folder.path(video)) as mine:
            if not mine:
                continue
            fault = _make_video(video, folder, make, size, fps)
        in_a_row = in_a_row + 1 if fault else 0
        if fault:
            faults.append(f"{video.suite}/{video.name}: {fault}")
        if in_a_row == MOST_IN_A_ROW:
            break
    if faults:
        raise MotionCacheError(
            f"{len(faults)} videos were faulty and are not kept, {faults[0]}; try dtype=float32 or another preset"
        )


@contextmanager
def claimed(partial: Path, final: Path) -> Iterator[bool]:
    """Claim a video by locking the file that it is written to; yield whether this process may make it.

    The claim ends with the block, or with the process.
    """
    if final.exists():
        yield False
        return
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        # Another process may have finished the video, or given it up and removed its file, since this one was opened.
        mine = try_lock(descriptor) and _is_at(descriptor, partial)
        try:
            yield mine and not final.exists()
        finally:
            if mine:
                partial.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _make_video(
    video: Video, folder: OutputFolder, make: Callable[[Video], torch.Tensor], size: VideoSize, fps: int
) -> str | None:
    """Make one video, and give it its name if it is whole; return what is wrong with it."""
    frames = make(video)  # [frames, 3, height, width]
    if not frames.isfinite().all():
        return "its values are not finite"
    partial = folder.partial_path(video)
    write_mp4(partial, to_uint8(frames), fps=fps)
    fault = video_fault(partial, size)
    if fault is None:
        partial.replace(folder.path(video))
    return fault
