"""Calls the pipeline as a job says."""

import itertools
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import torch
from diffusers import HeliosPipeline

from motioncache.latents import check_latents
from motioncache_diffusers import autoencoder
from motioncache_diffusers.loading import place
from motioncache_diffusers.text import Prompts
from motioncache_eval.out_of_memory import explain_out_of_memory
from motioncache_eval.settings import check_device
from motioncache_helios.job.checkpoint import CHECKPOINT
from motioncache_helios.job.config import CHUNK_FRAMES, JobConfig
from motioncache_helios.stream import stream

CHUNK_LATENTS = (CHUNK_FRAMES - 1) // 4 + 1


def load_pipeline(job: JobConfig) -> HeliosPipeline:
    """Load a job's pipeline from a folder or the hub, and put it on its device; see `Checkpoint.load`."""
    check_device(job.device, job.cpu_offload)
    pipeline = CHECKPOINT.load(job.model, job.dtype)
    place(pipeline, job.device, cpu_offload=job.cpu_offload)
    return pipeline


def warm_up(pipeline: HeliosPipeline, job: JobConfig) -> None:
    """Sample two denoise steps of one chunk, so that first-time allocations slow down none of the presets."""
    run_pipeline(pipeline, replace(job, num_inference_steps=2, num_frames=CHUNK_FRAMES))


def run_pipeline(
    pipeline: HeliosPipeline,
    job: JobConfig,
    chunk_done: Callable[[], None] | None = None,
    *,
    prompts: Prompts | None = None,
) -> torch.Tensor:
    """Call the pipeline once, as it stands, cached or not; return latents.

    The pipeline decodes each chunk when it is clean, and then drops the frames where latents are asked for.

    Args:
        chunk_done: called when the first chunk has taken all its denoise steps.
        prompts: keeps embeddings; without it, the call encodes the prompt.

    Raises:
        MotionCacheError: if the memory is too small for the video, or its latents are not finite.
    """
    done: list[None] = []

    def step_done(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if chunk_done is not None and step == job.num_inference_steps - 1 and not done:
            done.append(chunk_done())
        return tensors

    with explain_out_of_memory(job):
        arguments = _arguments(job, prompts or Prompts(pipeline))
        latents = pipeline(**arguments, output_type="latent", callback_on_step_end=step_done).frames
    check_latents(latents)
    return latents


def stream_frames(
    pipeline: HeliosPipeline, job: JobConfig, step_done: Callable[[float], object], prompts: Prompts
) -> Generator[torch.Tensor]:
    """Sample a job with the pipeline as it stands, and yield float frames `[frames, 3, height, width]` chunk by chunk.

    Args:
        step_done: called after each denoise step, with the share of all that are done.
    """
    done, total = itertools.count(1), -(-job.num_frames // CHUNK_FRAMES) * job.num_inference_steps

    def count(_: Any, __: int, ___: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        step_done(next(done) / total)
        return tensors

    with explain_out_of_memory(job):
        yield from stream(pipeline, **_arguments(job, prompts), output_type="pt", callback_on_step_end=count)


def _arguments(job: JobConfig, prompts: Prompts) -> dict[str, Any]:
    """What the pipeline is called with."""
    names = ("height", "width", "num_frames", "num_inference_steps", "guidance_scale")
    return {
        **prompts.arguments(job),
        **{name: getattr(job, name) for name in names},
        "num_latent_frames_per_chunk": CHUNK_LATENTS,
        "generator": torch.Generator().manual_seed(job.seed),
    }


def decode(pipeline: HeliosPipeline, latents: torch.Tensor) -> torch.Tensor:
    """Float frames `[frames, 3, height, width]` in [0, 1] on the host; every chunk is decoded by itself."""
    return torch.cat([autoencoder.decode(pipeline, chunk) for chunk in latents.split(CHUNK_LATENTS, dim=2)])
