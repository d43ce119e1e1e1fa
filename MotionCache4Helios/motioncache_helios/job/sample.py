"""Calls the pipeline as a job says."""

from collections.abc import Callable
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
        latents = pipeline(
            **(prompts or Prompts(pipeline)).arguments(job),
            height=job.height,
            width=job.width,
            num_frames=job.num_frames,
            num_inference_steps=job.num_inference_steps,
            guidance_scale=job.guidance_scale,
            num_latent_frames_per_chunk=CHUNK_LATENTS,
            generator=torch.Generator().manual_seed(job.seed),
            output_type="latent",
            callback_on_step_end=step_done,
        ).frames
    check_latents(latents)
    return latents


def decode(pipeline: HeliosPipeline, latents: torch.Tensor) -> torch.Tensor:
    """Float frames `[frames, 3, height, width]` in [0, 1] on the host; every chunk is decoded by itself."""
    return torch.cat([autoencoder.decode(pipeline, chunk) for chunk in latents.split(CHUNK_LATENTS, dim=2)])
