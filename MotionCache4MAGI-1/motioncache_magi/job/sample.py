"""Loads the pipeline that a job asks for, and calls it as the job says."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers.utils import logging

from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.none import NoCacheConfig
from motioncache_eval.jobs import policy_of
from motioncache_eval.memory import Footprint
from motioncache_eval.out_of_memory import explain_out_of_memory
from motioncache_eval.settings import check_device
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.job.config import MagiJobConfig
from motioncache_magi.memory import memory
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.text.kept import KeptText


def load_pipeline(job: MagiJobConfig) -> tuple[MagiPipeline, MagiJobConfig]:
    """Load the pipeline, and fill the sizes that the job leaves open with the model's own."""
    check_device(job.device, job.cpu_offload)
    pipeline = MagiPipeline.from_pretrained(
        job.model,
        variant=job.variant,
        config=job.config,
        special_tokens=job.special_tokens,
        torch_dtype=getattr(torch, job.dtype) if job.dtype else None,
        device=job.device,
        offload=job.cpu_offload,
        chunks_at_once=job.chunks_at_once,
        weights=job.weights,
        t5_dtype=getattr(torch, job.t5_dtype),
    )
    runtime = pipeline.config.runtime
    defaults = {
        "height": runtime.video_size_h,
        "width": runtime.video_size_w,
        "num_frames": runtime.num_frames,
        "num_inference_steps": runtime.num_steps,
        "fps": runtime.fps,
        "seed": runtime.seed,
    }
    job = replace(job, **{name: value for name, value in defaults.items() if getattr(job, name) is None})
    pipeline.stream(job.prompt, **_arguments(job))  # checks sizes and files; nothing is sampled yet
    return pipeline, job


def quiet_libraries() -> None:
    """Turn off the libraries' progress bars and warnings, so that the terminal shows only ours."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def encode(pipeline: MagiPipeline, job: MagiJobConfig) -> None:
    """Encode a job's prompt, and keep what the last prompts gave; the text encoder waits on the host in between."""
    if not isinstance(pipeline.text_encoder, KeptText):
        pipeline.text_encoder = KeptText(pipeline.text_encoder)
    pipeline.text_encoder(job.prompt)


def run_pipeline(
    pipeline: MagiPipeline, job: MagiJobConfig, chunk_done: Callable[[], None] | None = None
) -> torch.Tensor:
    """Call the pipeline once, as it stands, cached or not; return latents.

    Args:
        chunk_done: called whenever a chunk is clean.

    Raises:
        MotionCacheError: if the memory is too small for the video, or its latents are not finite.
    """
    assert job.seed is not None  # `load_pipeline` fills it in
    generator = torch.Generator().manual_seed(job.seed)
    chunks = []
    with explain_out_of_memory(job, partial(_estimate, pipeline)):
        for chunk in pipeline.stream(job.prompt, generator=generator, output_type="latent", **_arguments(job)):
            chunks.append(chunk)
            if chunk_done is not None:
                chunk_done()
    return torch.cat(chunks, dim=1)[None]


def _estimate(pipeline: MagiPipeline, job: MagiJobConfig) -> Footprint:
    runtime = replace(
        pipeline.config.runtime,
        num_frames=job.num_frames,
        video_size_h=job.height,
        video_size_w=job.width,
        num_steps=job.num_inference_steps,
    )  # pyright: ignore[reportArgumentType]  # `load_pipeline` fills all of them in
    policy = policy_of(MagiAdapter(), job)
    return memory(
        replace(pipeline.config, runtime=runtime),
        job.model,
        kv=policy.kv,
        keeps_active=not isinstance(policy, NoCacheConfig | ForecastConfig),
        keep_fp8=job.weights == "fp8",
    )


def warm_up(pipeline: MagiPipeline, job: MagiJobConfig) -> None:
    """Sample one chunk, so that first-time allocations slow down none of the presets."""
    run_pipeline(pipeline, replace(job, num_frames=1))


def decode(pipeline: MagiPipeline, job: MagiJobConfig, latents: torch.Tensor) -> torch.Tensor:
    """Turn latents into float frames `[frames, 3, height, width]` in [0, 1] on the host."""
    return pipeline.decode(latents)[: job.num_frames]


def _arguments(job: MagiJobConfig) -> dict[str, Any]:
    names = ("image", "video", "height", "width", "num_frames", "num_inference_steps")
    return {name: getattr(job, name) for name in names}
