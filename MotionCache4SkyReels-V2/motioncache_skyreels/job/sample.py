"""Calls the pipeline as a job says, and decodes what it returns."""

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline

from motioncache.config import PolicyConfig
from motioncache.latents import check_latents
from motioncache_diffusers.text import Prompts
from motioncache_eval.jobs import policy_of
from motioncache_eval.memory import Footprint
from motioncache_eval.out_of_memory import explain_out_of_memory
from motioncache_eval.sampling import Sample, take_sample
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.load import video_size
from motioncache_skyreels.memory import memory_of_job
from motioncache_skyreels.stream import stream


def sample(
    pipeline: SkyReelsV2DiffusionForcingPipeline,
    job: JobConfig,
    policy: PolicyConfig | None,
    *,
    prepare: Callable[[Any], None] | None = None,
) -> Sample:
    """Sample the job's prompt; see `take_sample`."""
    call = partial(run_pipeline, pipeline, job)
    return take_sample(pipeline, call, policy, device=job.device, prepare=prepare)


def warm_up(pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig) -> None:
    """Sample two denoise steps, so that first-time allocations slow down none of the presets."""
    run_pipeline(pipeline, replace(job, num_inference_steps=2))


def run_pipeline(
    pipeline: SkyReelsV2DiffusionForcingPipeline,
    job: JobConfig,
    chunk_done: Callable[[], None] | None = None,
    *,
    prompts: Prompts | None = None,
) -> torch.Tensor:
    """Call the pipeline once, as it stands, cached or not; return latents.

    Args:
        chunk_done: called when the first chunk of a window has taken all its denoise steps.
        prompts: keeps embeddings; without it, the call encodes the prompt.

    Raises:
        MotionCacheError: if the memory is too small for the video, or its latents are not finite.
    """
    with explain_out_of_memory(job, partial(_estimate, pipeline)):
        latents = _call(pipeline, job, chunk_done, prompts or Prompts(pipeline))
    check_latents(latents)
    return latents


def _estimate(pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig) -> Footprint:
    return memory_of_job(pipeline.transformer, job, policy_of(SkyReelsAdapter(), job))


def stream_frames(
    pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig, step_done: Callable[[float], object], prompts: Prompts
) -> Generator[torch.Tensor]:
    """Sample a job with the pipeline as it stands, and yield float frames `[frames, 3, height, width]` chunk by chunk.

    Args:
        step_done: called after each iteration, with the share of all that are done.
    """
    size = video_size(pipeline, job)
    window = -1

    def count(_: Any, iteration: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        nonlocal window
        window += iteration == 0
        step_done((window + (iteration + 1) / pipeline.num_timesteps) / size.windows)
        return tensors

    torch.manual_seed(job.seed)
    with explain_out_of_memory(job, partial(_estimate, pipeline)):
        yield from stream(pipeline, **_arguments(job, prompts), output_type="pt", callback_on_step_end=count)


def _call(
    pipeline: SkyReelsV2DiffusionForcingPipeline,
    job: JobConfig,
    chunk_done: Callable[[], None] | None,
    prompts: Prompts,
) -> torch.Tensor:
    def step_done(_: Any, iteration: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if chunk_done is not None and iteration == job.num_inference_steps - 1:
            chunk_done()
        return tensors

    torch.manual_seed(job.seed)  # diffusers draws the noise of addnoise_condition from the global generator
    return pipeline(**_arguments(job, prompts), output_type="latent", callback_on_step_end=step_done).frames


def _arguments(job: JobConfig, prompts: Prompts) -> dict[str, Any]:
    """What the pipeline is called with."""
    names = (
        "height", "width", "num_frames", "base_num_frames", "overlap_history", "addnoise_condition",
        "num_inference_steps", "guidance_scale", "ar_step", "causal_block_size", "fps",
    )  # fmt: skip
    settings = {name: getattr(job, name) for name in names}
    return {**prompts.arguments(job), **settings, "generator": torch.Generator().manual_seed(job.seed)}
