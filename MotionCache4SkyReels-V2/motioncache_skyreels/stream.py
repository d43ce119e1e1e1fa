"""Samples a video and hands out its chunks as they become clean, while the rest is being sampled."""

from collections.abc import Generator
from typing import Any

import torch

from motioncache_diffusers.chunk_decoder import ChunkDecoder
from motioncache_diffusers.streaming import Sampling, check_output_type


def stream(pipeline: Any, *args: Any, output_type: str = "np", **call: Any) -> Generator[Any]:
    """Call a diffusion-forcing pipeline, cached or not, and yield the frames of each chunk as soon as it is clean.

    The pipeline runs in a thread of its own; closing the iterator stops it after the denoise step it is in. All chunks
    together are what the call returns at once.

    Args:
        args, call: of the pipeline's call, which makes one video.
        output_type: of what is yielded: np, float32 `[frames, height, width, 3]` in [0, 1]; pt, `[frames, 3, height,
            width]` in [0, 1]; latent, `[channels, latent_frames, height / 8, width / 8]`.

    Raises:
        MotionCacheError: for another output type, tiled decoding, latents that are not finite, and as the call does.
    """
    check_output_type(output_type)
    decode = None if output_type == "latent" else ChunkDecoder(pipeline).decode
    return Sampling(pipeline, args, call, clean=CleanFrames(), decode=decode).chunks(output_type)


class CleanFrames:
    """Counts the latent frames of a video that are clean, window by window; see `Clean`."""

    def __init__(self) -> None:
        self._handed_out = 0
        self._first = 0  # latent frame of the video with which the window begins
        self._windows = 0

    def step(self, pipeline: Any, iteration: int, timesteps: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """The latent frames of the window that have become clean.

        Args:
            iteration: of the window.
            timesteps: of its latent frames in this iteration, `[frames]`; 0 for those that were given or are clean.
        """
        last = float(pipeline.scheduler.timesteps[-1])
        clean = int(((timesteps <= last).long().cumprod(0)).sum())
        if iteration == 0:
            given = int(((timesteps == 0).long().cumprod(0)).sum())
            self._first = self._handed_out - given if self._windows else 0
            self._windows += 1
        start = self._handed_out - self._first
        self._handed_out = max(self._handed_out, self._first + clean)
        return latents[:, :, min(start, latents.shape[2]) : max(clean, start)]

    def rest(self, video: torch.Tensor) -> torch.Tensor:
        return video[:, :, self._handed_out :]
