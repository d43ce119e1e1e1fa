"""Reads the last frames of a video file, upright and at the frame rate of the model, or refuses it."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra
from motioncache_magi.given.pictures import one_line, to_rgb

_TEXT = ("tty", "bin", "xbin", "idf", "adf")
"""Formats of texts that ffmpeg draws."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A decoded frame, and the seconds from the first one at which it is shown, and ceases to be."""

    frame: Any
    start: Fraction
    end: Fraction


def last_frames(path: Path, *, fps: int, most: int) -> list[Image.Image]:
    """Read at most so many last frames of a video, resampled to `fps` and turned as its display matrix says.

    Only these are held in memory, however long the video is. Transparent parts become white.

    Raises:
        MotionCacheError: for a file that is missing, damaged, cut off, or holds no video.
    """
    require_extra("av", "reading videos")
    import av

    try:
        with av.open(str(path)) as container:
            kept = _last_shown(_shown(container, path), fps, most)
            return [_upright(frame, path) for frame in resample(kept, fps, most)]
    except (OSError, ValueError, av.FFmpegError) as error:
        if isinstance(error, MotionCacheError):
            raise
        raise MotionCacheError(f"the video {one_line(path)} cannot be read: {one_line(error)}") from None


def resample(shown: Sequence[Shown], fps: int, most: int) -> list[Any]:
    """At most so many last frames of those that are shown, at a constant frame rate.

    Each is the last one whose start, rounded to a tick of 1 / fps seconds, has come: frames are repeated or dropped, as
    by the filter `fps` of ffmpeg, which the official code applies.
    """
    ticks = [_tick(one.start, fps) for one in shown]
    if shown:
        ticks.append(max(_tick(shown[-1].end, fps), ticks[0] + 1))
    last_first: list[Any] = []
    for one, begin, end in zip(reversed(shown), reversed(ticks[:-1]), reversed(ticks[1:]), strict=True):
        last_first += [one.frame] * min(end - begin, most - len(last_first))
    return last_first[::-1]


def _last_shown(frames: Iterator[Shown], fps: int, most: int) -> list[Shown]:
    """The frames that the last `most` ticks show."""
    kept: deque[Shown] = deque()
    for one in frames:
        kept.append(one)
        while len(kept) > 1 and _tick(kept[1].start, fps) <= _tick(one.start, fps) - most:
            kept.popleft()
    return list(kept)


def _tick(seconds: Fraction, fps: int) -> int:
    """The nearest tick; halves go up."""
    return (seconds * fps + Fraction(1, 2)).__floor__()


def _shown(container: Any, path: Path) -> Iterator[Shown]:
    """Decode the first video of a file."""
    stream = _video_stream(container, path)
    length = 1 / Fraction(stream.guessed_rate or 25)
    begin, end, sound = None, Fraction(0), Fraction(0)
    for packet in container.demux():
        if packet.stream.index != stream.index:
            sound = max(sound, _end(packet))
            continue
        for frame in packet.decode():
            if frame.is_corrupt:
                raise MotionCacheError(
                    f"the video {one_line(path)} is damaged at {float(end):.2f} s: pass a whole file"
                )
            start = end if frame.pts is None else frame.pts * frame.time_base
            begin = start if begin is None else begin
            end = start - begin + (frame.duration * frame.time_base if frame.duration else length)
            yield Shown(frame, start - begin, end)
    _check_end(container, path, max(end, sound))


def _video_stream(container: Any, path: Path) -> Any:
    from av.stream import Disposition

    cover = Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams or container.format.name in _TEXT:
        raise MotionCacheError(f"{one_line(path)} holds no video: pass a video file")
    if streams[0].codec_context is None:
        raise MotionCacheError(f"the codec of {one_line(path)} is unknown: save it as H.264")
    return streams[0]


def _end(packet: Any) -> Fraction:
    """When a packet of another stream ceases, in seconds."""
    return Fraction(0) if packet.pts is None else (packet.pts + (packet.duration or 0)) * packet.time_base


def _check_end(container: Any, path: Path, end: Fraction) -> None:
    """Refuse a Matroska or WebM file that was cut off, which others are decoded of without an error."""
    promised = Fraction(container.duration or 0, 1_000_000)
    if "matroska" in container.format.name and end < promised - 1:
        raise MotionCacheError(
            f"the video {one_line(path)} ends after {float(end):.1f} of {float(promised):.1f} s: pass a whole file"
        )


def _upright(frame: Any, path: Path) -> Image.Image:
    """A decoded frame as a picture, turned and mirrored as its display matrix says."""
    from av.sidedata.sidedata import Type

    clear = any(component.is_alpha for component in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if clear else "rgb24")
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is not None:
        pixels = _turned(pixels, np.frombuffer(bytes(matrix), np.int32)[[0, 1, 3, 4]].tolist(), path)
    return to_rgb(pixels, f"a frame of {one_line(path)}")


def _turned(pixels: np.ndarray, matrix: Sequence[int], path: Path) -> np.ndarray:
    """Move the pixel at (x, y), y downwards, to (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    if a == d == 0 and b and c:
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    elif b == c == 0 and a and d:
        across, down = a, d
    else:
        raise MotionCacheError(f"{one_line(path)} is to be shown at an angle that is not right: turn its frames first")
    return pixels[:: 1 if down > 0 else -1, :: 1 if across > 0 else -1]
