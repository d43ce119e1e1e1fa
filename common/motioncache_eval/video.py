"""Reads and writes video files with PyAV, and arranges videos for people to watch."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from motioncache.extras import require_extra

WATCHABLE_WIDTH = 384
"""Videos that are narrower than this many pixels are enlarged to be watched."""


def to_uint8(video: torch.Tensor) -> NDArray[np.uint8]:
    """Turn float `[frames, 3, height, width]` in [0, 1] into uint8 `[frames, height, width, 3]`."""
    return (video.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def write_mp4(path: Path, frames: NDArray[np.uint8], *, fps: int, crf: int = 12) -> None:
    """Write `[frames, height, width, 3]` as H.264, which every player shows. It is lossy: measure nothing on it."""
    require_extra("av", "writing videos")
    import av

    _, height, width, _ = frames.shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read_video(path: Path) -> NDArray[np.uint8]:
    """All frames of a video file, uint8 `[frames, height, width, 3]`."""
    require_extra("av", "reading videos")
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.uint8)


def frame_rate(path: Path) -> float | None:
    """Frames per second of a video file; None if it is no video."""
    require_extra("av", "reading videos")
    import av

    try:
        with av.open(str(path)) as container:
            return float(container.streams.video[0].average_rate or 0) or None
    except (av.FFmpegError, IndexError):
        return None


def watchable(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enlarge `[frames, height, width, 3]` by the smallest whole factor that makes it `WATCHABLE_WIDTH` wide."""
    factor = max(1, -(-WATCHABLE_WIDTH // frames.shape[2]))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def side_by_side(videos: Sequence[NDArray[np.uint8]], labels: Sequence[str], gap: int = 8) -> NDArray[np.uint8]:
    """Put videos of one size next to each other with white gaps, each below its label.

    Args:
        labels: one for each video, of one or more lines.
        gap: pixels, an even number: H.264 takes no odd width.
    """
    frames, height, width, channels = videos[0].shape
    white = np.full((frames, height, gap, channels), 255, np.uint8)
    parts, heads = [videos[0]], [*_labels(labels, width)]
    for video in videos[1:]:
        parts += [white, video]
    between = np.full((len(heads[0]), gap, 3), 255, np.uint8)
    head = np.concatenate([part for one in heads for part in (between, one)][1:], axis=1)
    above = np.broadcast_to(head, (frames, *head.shape))
    return np.concatenate([above, np.concatenate(parts, axis=2)], axis=1)


def _labels(labels: Sequence[str], width: int) -> list[NDArray[np.uint8]]:
    """Black on white, uint8 `[height, width, 3]` each, in the largest letters in which all of them fit."""
    size = max(14, width // 22)
    while size > 6 and max(_extent(label, size)[0] for label in labels) > width - size:
        size -= 1
    height = max(_extent(label, size)[1] for label in labels) + size
    height += height % 2  # H.264 takes no odd height
    drawn: list[NDArray[np.uint8]] = []
    for label in labels:
        image = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(image)
        draw.multiline_text((size // 2, size // 2), label, fill="black", font=ImageFont.load_default(size))
        drawn.append(np.asarray(image))
    return drawn


def _extent(label: str, size: int) -> tuple[int, int]:
    """Width and height of a label in pixels."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, bottom = draw.multiline_textbbox((0, 0), label, font=ImageFont.load_default(size))
    return int(right) + 1, int(bottom) + 1
