"""Turns an image to start from, or a video to go on from, into frames for the autoencoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from motioncache.errors import MotionCacheError
from motioncache_eval.video import read_video

MOST_FRAMES = 32
"""The model goes on from at most this many frames, the last ones of a video."""

Frames = Sequence[Image.Image] | np.ndarray


def image_frames(image: Image.Image | Path | str, height: int, width: int) -> torch.Tensor:
    """Read an image as one frame in [-1, 1], `[1, 3, 1, height, width]`.

    The image is resized without regard to its aspect ratio, as in the official code.

    Raises:
        MotionCacheError: if the file cannot be read.
    """
    if not isinstance(image, Image.Image):
        try:
            image = Image.open(image)
        except (OSError, UnidentifiedImageError) as error:
            raise MotionCacheError(f"the image {image} cannot be read: {error}") from None
    return _to_model([image], height, width)


def video_frames(video: Frames | Path | str, height: int, width: int, patch_length: int) -> torch.Tensor:
    """Read the last frames of a video in [-1, 1], `[1, 3, frames, height, width]`.

    Args:
        video: a file, pictures, or uint8 `[frames, height, width, 3]`, at the frame rate of the model.
        patch_length: the number of frames is a multiple of this one, and at most `MOST_FRAMES`.

    Raises:
        MotionCacheError: if the file cannot be read, or the video is shorter than `patch_length`.
    """
    if isinstance(video, Path | str):
        try:
            video = read_video(Path(video))
        except (OSError, ValueError) as error:  # PyAV derives its errors from these two
            raise MotionCacheError(f"the video {video} cannot be read: {error}") from None
    count = min(len(video), MOST_FRAMES) // patch_length * patch_length
    if count == 0:
        raise MotionCacheError(
            f"a video of {len(video)} frames is too short to go on from: give {patch_length} frames or more"
        )
    images = [frame if isinstance(frame, Image.Image) else Image.fromarray(frame) for frame in video[-count:]]
    return _to_model(images, height, width)


def _to_model(images: Sequence[Image.Image], height: int, width: int) -> torch.Tensor:
    pixels = [np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)) for image in images]
    video = torch.from_numpy(np.stack(pixels)).permute(3, 0, 1, 2)[None]
    return video.float() / 127.5 - 1
