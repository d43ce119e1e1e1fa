"""Turns an image to start from, or a video to go on from, into frames for the autoencoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from motioncache.errors import MotionCacheError
from motioncache_magi.given.pictures import Picture, open_picture, to_rgb
from motioncache_magi.given.videos import last_frames

MOST_FRAMES = 32
"""The model goes on from at most this many frames, the last ones of a video."""

Frames = Sequence[Picture] | np.ndarray | torch.Tensor
"""Pictures, an array `[frames, height, width, channels]`, or a tensor `[frames, channels, height, width]`."""


def image_frames(image: Picture | Path | str, height: int, width: int) -> torch.Tensor:
    """Read an image as one frame in [-1, 1], `[1, 3, 1, height, width]`.

    The image is resized without regard to its aspect ratio, as in the official code. A list of one image is that image.

    Raises:
        MotionCacheError: if it cannot be read, is no picture, or holds several.
    """
    if isinstance(image, list | tuple) and len(image) == 1:
        image = image[0]
    picture = open_picture(Path(image)) if isinstance(image, Path | str) else to_rgb(image, "the image")
    return _to_model([picture], height, width)


def video_frames(video: Frames | Path | str, height: int, width: int, patch_length: int, fps: int) -> torch.Tensor:
    """Read the last frames of a video in [-1, 1], `[1, 3, frames, height, width]`.

    Args:
        video: a file, which is resampled to `fps`, or frames at the frame rate of the model. What diffusers' pipelines
            return is accepted, with the dimension of its one video.
        patch_length: the number of frames is a multiple of this one, and at most `MOST_FRAMES`.

    Raises:
        MotionCacheError: if it cannot be read, is no video, or is shorter than `patch_length`.
    """
    if isinstance(video, Path | str):
        frames: Any = last_frames(Path(video), fps=fps, most=MOST_FRAMES)
    else:
        frames = _frames_of(video)
    count = min(len(frames), MOST_FRAMES) // patch_length * patch_length
    if count == 0:
        raise MotionCacheError(
            f"a video of {len(frames)} frames is too short to go on from: give {patch_length} frames or more, or one "
            "picture as image="
        )
    pictures = [to_rgb(frame, "a frame of the video") for frame in frames[len(frames) - count :]]
    return _to_model(pictures, height, width)


def _frames_of(video: Any) -> Any:
    """The frames of a video, without the dimension of its batch."""
    batched = video.ndim == 5 if isinstance(video, np.ndarray | torch.Tensor) else _is_batch(video)
    if batched and len(video) != 1:
        raise MotionCacheError(f"{len(video)} videos are given to go on from: pass one")
    frames = video[0] if batched else video
    if isinstance(frames, list | tuple) or (isinstance(frames, np.ndarray | torch.Tensor) and frames.ndim == 4):
        return frames
    shape = f"has the shape {tuple(frames.shape)}" if hasattr(frames, "shape") else f"is of type {type(video).__name__}"
    raise MotionCacheError(
        f"the video {shape}: pass a file, a list of pictures, an array [frames, height, width, channels] or a tensor "
        "[frames, channels, height, width]"
    )


def _is_batch(video: Any) -> bool:
    """Whether a list holds videos, and not pictures."""
    if not isinstance(video, list | tuple) or not video:
        return False
    first = video[0]
    return isinstance(first, list | tuple) or (isinstance(first, np.ndarray | torch.Tensor) and first.ndim == 4)


def _to_model(pictures: Sequence[Image.Image], height: int, width: int) -> torch.Tensor:
    pixels = [np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in pictures]
    video = torch.from_numpy(np.stack(pixels)).permute(3, 0, 1, 2)[None]
    return video.float() / 127.5 - 1
