"""Reads and writes video files with PyAV, and arranges videos for people to watch."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.extras import require_extra


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


def side_by_side(videos: list[NDArray[np.uint8]], gap: int = 4) -> NDArray[np.uint8]:
    """Put videos of one size next to each other, with white gaps."""
    frames, height, _, channels = videos[0].shape
    white = np.full((frames, height, gap, channels), 255, np.uint8)
    parts = [videos[0]]
    for video in videos[1:]:
        parts += [white, video]
    return np.concatenate(parts, axis=2)


def enlarge(video: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Enlarge a video by repeating its pixels."""
    return video.repeat(factor, axis=1).repeat(factor, axis=2)
