"""Samples a video and hands out its chunks as they become clean: one after another."""

from collections.abc import Generator
from functools import partial
from typing import Any

import torch

from motioncache_diffusers import autoencoder
from motioncache_diffusers.streaming import Sampling, check_output_type


def stream(pipeline: Any, *args: Any, output_type: str = "np", **call: Any) -> Generator[Any]:
    """Call a Helios pipeline, cached or not, and yield the frames of each chunk as soon as it is clean.

    See `motioncache.stream`. What the video starts from is not handed out, and no frame is dropped: the call
    drops those that exceed 4 n + 1.
    """
    check_output_type(output_type)
    decode = None if output_type == "latent" else partial(autoencoder.decode, pipeline)
    return Sampling(pipeline, args, call, clean=CleanChunks(), decode=decode).chunks(output_type)


class CleanChunks:
    """A chunk is clean after its last denoise step, and nothing else is in the making; see `Clean`."""

    def step(self, pipeline: Any, iteration: int, timesteps: Any, latents: torch.Tensor) -> torch.Tensor:
        return latents if iteration + 1 == pipeline.num_timesteps else latents[:, :, :0]

    def rest(self, video: torch.Tensor) -> torch.Tensor:
        return video[:, :, :0]
