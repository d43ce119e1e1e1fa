"""Command line of the main job: `python -m motioncache_magi.job CONFIG.yaml [key=value ...]`."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from motioncache.api import resolve_preset
from motioncache_eval.command import run_command, show_usage
from motioncache_eval.main_job import MainJob, check_output, run_main_job
from motioncache_eval.settings import check_device
from motioncache_magi.adapter import MagiAdapter
from motioncache_magi.job.config import MagiJobConfig, load_magi_job
from motioncache_magi.pipeline import MagiPipeline


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        return show_usage(__doc__)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return run_command(lambda: run(load_magi_job(Path(arguments[0]), arguments[1:])))


def run(job: MagiJobConfig) -> int:
    """Check everything, load the model, and produce the results in a new folder."""
    chosen = resolve_preset(MagiAdapter(), job.preset)
    check_output(Path(job.output))
    check_device(job.device, job.cpu_offload)
    print(f"loading {job.model}")
    pipeline = MagiPipeline.from_pretrained(
        job.model,
        variant=job.variant,
        config=job.config,
        special_tokens=job.special_tokens,
        torch_dtype=getattr(torch, job.dtype) if job.dtype else None,
        device=job.device,
        offload=job.cpu_offload,
    )
    job = _with_sizes(job, pipeline)
    pipeline.stream(job.prompt, **_arguments(job))  # checks sizes and files; nothing is sampled yet
    return run_main_job(
        MainJob(
            settings=job,
            policy=chosen,
            pipeline=pipeline,
            call=partial(_call, pipeline, job),
            warm_up=partial(_call, pipeline, replace(job, num_frames=1)),
            decode=lambda latents: pipeline.decode(latents)[: job.num_frames],
            progress=pipeline.set_progress_bar_config,
            branch=pipeline.branch,
        )
    )


def _with_sizes(job: MagiJobConfig, pipeline: MagiPipeline) -> MagiJobConfig:
    runtime = pipeline.config.runtime
    return replace(
        job,
        height=job.height or runtime.video_size_h,
        width=job.width or runtime.video_size_w,
        num_frames=job.num_frames or runtime.num_frames,
        num_inference_steps=job.num_inference_steps or runtime.num_steps,
        fps=job.fps or runtime.fps,
    )


def _arguments(job: MagiJobConfig) -> dict[str, Any]:
    names = ("image", "video", "height", "width", "num_frames", "num_inference_steps")
    return {name: getattr(job, name) for name in names}


def _call(pipeline: MagiPipeline, job: MagiJobConfig) -> torch.Tensor:
    generator = torch.Generator().manual_seed(job.seed)
    arguments = _arguments(job)
    return pipeline(job.prompt, generator=generator, output_type="latent", **arguments).frames


if __name__ == "__main__":
    sys.exit(main())
