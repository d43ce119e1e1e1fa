"""Tells a whole video file from one that is cut short, of another size, or black."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra

_BLACK = 20
"""The luma of black is 16 in a video file; coding it with loss adds a few levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSize:
    """How many frames of how many pixels a video has."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames} frames of {self.width}x{self.height}"


def video_fault(path: Path, size: VideoSize) -> str | None:
    """Say why a file is no whole video of this size; None if it is one.

    All frames are counted, but only the first one is decoded, unless that is black.

    Raises:
        MotionCacheError: if the file cannot be opened.
    """
    require_extra("av", "reading videos")
    import av

    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise MotionCacheError(f"the video {path} cannot be read: {error.strerror}") from None
    try:
        with av.open(str(path)) as container:
            found = _size(container)
            if found != size:
                return f"it has {found}, not {size}"
            container.seek(0)
            black = all(_is_black(frame) for frame in container.decode(video=0))
    except (av.FFmpegError, ValueError, IndexError):
        return "it cannot be read as a video"
    return "it is black" if black else None


def decoding_fault(path: Path) -> str | None:
    """Say why not all frames of a file can be decoded; None if they can."""
    require_extra("av", "reading videos")
    import av

    try:
        with av.open(str(path)) as container:
            whole = all(not frame.is_corrupt for frame in container.decode(video=0))
    except (av.FFmpegError, ValueError, IndexError):
        whole = False
    return None if whole else "it cannot be decoded"


def _size(container: Any) -> VideoSize:
    stream = container.streams.video[0]
    frames = sum(packet.size > 0 for packet in container.demux(stream))
    return VideoSize(frames=frames, height=stream.height, width=stream.width)


def _is_black(frame: Any) -> bool:
    return bool(np.frombuffer(frame.reformat(format="gray").planes[0], np.uint8).max() <= _BLACK)
