"""One cell of the benchmark: one prompt under one method."""

import statistics
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from motioncache.errors import ConfigError
from motioncache_eval.bench.config import Method, fingerprint, settings_of
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.metrics import fidelity, moving_pixels, psnr, psnr_of_frames, psnr_where
from motioncache_eval.motion_map import MotionRecorder
from motioncache_eval.page.view import make_overlay, make_view
from motioncache_eval.report import environment
from motioncache_eval.sampling import Sample
from motioncache_eval.video import to_uint8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The video as the pipeline samples it without a cache.

    Attributes:
        latents: as the pipeline returns them.
        frames: decoded, float `[frames, 3, height, width]` in [0, 1].
    """

    latents: torch.Tensor
    frames: torch.Tensor


def job_of(bench: BenchModel, method: Method, prompt: str, index: int) -> Any:
    """The main job's configuration of a cell.

    Args:
        index: of the prompt; it moves the seed, so that every prompt has its own noise, the same for all methods.
    """
    known = [field.name for field in fields(bench.job)]
    for key in method.job:
        if key not in known:
            raise ConfigError(f"methods.{method.name}.job: unknown key {key!r}; known keys: {', '.join(sorted(known))}")
    return replace(bench.job, prompt=prompt, seed=bench.job.seed + index, **method.job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures of a cell, its video, and what the page shows of it."""

    result: dict[str, Any]
    video: Reference
    view: dict[str, Any]


def measure(
    bench: BenchModel, method: Method, prompt: str, index: int, *, repeats: int, reference: Reference | None
) -> Measured:
    """Sample and compare; without a reference the video is one itself."""
    job = job_of(bench, method, prompt, index)
    recorder = MotionRecorder(bench.branch)
    taken = [bench.sample(job, method.policy, prepare=recorder.attach) for _ in range(repeats)]
    own = Reference(latents=taken[0].latents, frames=bench.decode(taken[0].latents))
    compared = reference or own
    result = {
        "method": method.name,
        "prompt": prompt,
        "fingerprint": fingerprint(job, method.policy),
        **settings_of(job, method.policy),
        **environment(job.device),
        "seconds": [sample.seconds for sample in taken],
        "median_seconds": statistics.median(sample.seconds for sample in taken),
        **_counted(taken[0]),
        **_compared(own, compared, bench),
    }
    trace = taken[-1].trace
    overlay = None if trace is None else make_overlay(trace, recorder.weights())
    view = make_view(to_uint8(own.frames), fps=job.fps, trace=trace, overlay=overlay)
    return Measured(result=result, video=own, view=view)


def _counted(sample: Sample) -> dict[str, Any]:
    if sample.summary is None:
        return {"flops": None, "vanilla_flops": None, "computed_share": 1.0}
    summary = sample.summary
    return {
        "flops": summary.flops,
        "vanilla_flops": summary.vanilla_flops,
        "computed_share": summary.computed_share,
    }


def _compared(own: Reference, reference: Reference, bench: BenchModel) -> dict[str, Any]:
    """Fidelity of the whole video, chunk by chunk, and apart for what moves in the reference and what does not."""
    quality = fidelity(own.frames, reference.frames)
    moving = moving_pixels(reference.frames)
    return {
        "psnr_db": quality.psnr_db,
        "psnr_of_frames_db": statistics.mean(psnr_of_frames(own.frames, reference.frames)),
        "ssim": quality.ssim,
        "psnr_of_chunks_db": [psnr(own.frames[s], reference.frames[s]) for s in bench.spans(len(own.frames))],
        "psnr_moving_db": psnr_where(own.frames, reference.frames, moving),
        "psnr_still_db": psnr_where(own.frames, reference.frames, ~moving),
        "moving_share": float(moving.float().mean()),
        "latent_mse": float((own.latents.float() - reference.latents.float()).square().mean()),
    }
