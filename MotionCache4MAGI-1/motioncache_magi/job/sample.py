"""Loads the pipeline that a job asks for, and calls it as the job says."""

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers.utils import logging

from motioncache_eval.memory import Footprint
from motioncache_eval.out_of_memory import explain_out_of_memory
from motioncache_eval.settings import check_device
from motioncache_magi.job.config import MagiJobConfig
from motioncache_magi.job.cost import memory_of_job, sized
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.text.kept import KeptText


def load_pipeline(job: MagiJobConfig) -> MagiPipeline:
    """Load the pipeline of a job."""
    check_device(job.device, job.cpu_offload)
    return MagiPipeline.from_pretrained(
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


def complete_job(pipeline: MagiPipeline, job: MagiJobConfig) -> MagiJobConfig:
    """Fill what a job leaves open with the model's own; refuse sizes and files that cannot be sampled."""
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
    return job


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


def stream_frames(
    pipeline: MagiPipeline, job: MagiJobConfig, step_done: Callable[[float], object]
) -> Generator[torch.Tensor]:
    """Sample a job with the pipeline as it stands, and yield float frames `[frames, 3, height, width]` chunk by chunk.

    Args:
        step_done: called after each model call, with the share of all that are done.
    """
    assert job.seed is not None  # `load_pipeline` fills it in
    generator = torch.Generator().manual_seed(job.seed)
    with explain_out_of_memory(job, partial(_estimate, pipeline)):
        yield from pipeline.stream(
            job.prompt, generator=generator, output_type="pt", on_step=step_done, **_arguments(job)
        )


def _estimate(pipeline: MagiPipeline, job: MagiJobConfig) -> Footprint:
    return memory_of_job(sized(pipeline.config, job), job)


def warm_up(pipeline: MagiPipeline, job: MagiJobConfig) -> None:
    """Sample one chunk, so that first-time allocations slow down none of the presets."""
    run_pipeline(pipeline, replace(job, num_frames=1))


def decode(pipeline: MagiPipeline, job: MagiJobConfig, latents: torch.Tensor) -> torch.Tensor:
    """Turn latents into float frames `[frames, 3, height, width]` in [0, 1] on the host."""
    return pipeline.decode(latents)[: job.num_frames]


def _arguments(job: MagiJobConfig) -> dict[str, Any]:
    names = ("image", "video", "height", "width", "num_frames", "num_inference_steps")
    return {name: getattr(job, name) for name in names}
