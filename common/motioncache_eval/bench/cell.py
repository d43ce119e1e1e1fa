"""One cell of the benchmark: one prompt under one method."""

import statistics
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import torch

from motioncache.errors import ConfigError, MotionCacheError
from motioncache.field_types import require_type, shown
from motioncache_eval.bench.config import Method, fingerprint
from motioncache_eval.bench.model import BenchModel, Taken
from motioncache_eval.bench.noise import noise_from, noise_hash
from motioncache_eval.metrics import fidelity, moving_pixels, psnr, psnr_of_frames, psnr_where, require_picture
from motioncache_eval.motion_map import MotionRecorder
from motioncache_eval.page.view import make_overlay, make_view
from motioncache_eval.perceptual import perceptual
from motioncache_eval.report import environment, require_finite_figures
from motioncache_eval.video import to_uint8

_SHARED = {"prompt", "seed"}
"""Settings of the demo that are the same for all methods."""


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
    """The demo's configuration for one cell.

    Args:
        index: the prompt's number; it moves the seed, so that every prompt has its own noise, the same for all methods.
    """
    hints = get_type_hints(type(bench.job))
    own = f"methods.{method.name}.job"
    for key, value in method.job.items():
        if key not in hints or key in _SHARED:
            known = ", ".join(sorted({*hints} - _SHARED))
            raise ConfigError(f"{own}: unknown key {shown(key)}; known keys: {known}")
        require_type(f"{own}.{key}", value, hints[key])
    try:
        return replace(bench.job, prompt=prompt, seed=bench.job.seed + index, **method.job)
    except ConfigError as error:
        raise ConfigError(f"{own}, prompt {index}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A cell's figures, its video, and what the page shows of it, if it shows it."""

    result: dict[str, Any]
    video: Reference
    view: dict[str, Any] | None


def measure(
    bench: BenchModel,
    method: Method,
    prompt: str,
    index: int,
    *,
    repeats: int,
    noise: Path,
    reference: Reference | None,
    shown: bool,
) -> Measured:
    """Sample the prompt's video, and compare it.

    Args:
        repeats: how often the video is sampled; times are medians.
        noise: file of the prompt's noise.
        reference: what the video is compared with; None compares it with itself.
        shown: whether the page shows it.
    """
    job = job_of(bench, method, prompt, index)
    recorder = MotionRecorder(bench.branch)
    taken: list[Taken] = []
    for _ in range(repeats):
        with noise_from(noise):
            taken.append(bench.take(job, method, prepare=recorder.attach if shown else None))
    own, decoding = _decoded(bench, job, taken[0].sample.latents)
    settings = bench.settings(job, method)
    result = {
        "method": method.name,
        "family": method.family,
        "prompt": prompt,
        "fingerprint": fingerprint(settings),
        **settings,
        "noise": noise_hash(noise),
        **environment(job.device),
        **_times(taken),
        "decode_seconds": decoding,
        **_counted(taken[0]),
        **_compared(own, reference or own, bench),
    }
    require_finite_figures(result)
    view = _view(own.frames, taken[-1], recorder, job.fps) if shown else None
    return Measured(result=result, video=own, view=view)


def _decoded(bench: BenchModel, job: Any, latents: torch.Tensor) -> tuple[Reference, float]:
    """The video, which has to show something, and the seconds that decoding took."""
    started = time.perf_counter()
    video = Reference(latents=latents, frames=bench.decode(job, latents))
    seconds = time.perf_counter() - started
    require_picture(video.frames)
    return video, seconds


def _view(frames: torch.Tensor, taken: Taken, recorder: MotionRecorder, fps: int) -> dict[str, Any]:
    """What the page shows of a video."""
    trace = taken.sample.trace
    overlay = None if trace is None else make_overlay(trace, recorder.weights())
    return make_view(to_uint8(frames), fps=fps, trace=trace, overlay=overlay)


def error_text(error: Exception) -> str:
    """What a cell says about a method that raised: the message, with the kind of error unless it is one of ours.

    It holds no traceback, which would name paths of a machine.
    """
    if isinstance(error, MotionCacheError):
        return str(error)
    return "".join(traceback.format_exception_only(error)).strip()


def last_line(error: str) -> str:
    """The line of an error's text that says what is wrong."""
    return error.splitlines()[-1] if error else "no reason given"


def _times(taken: list[Taken]) -> dict[str, Any]:
    """Seconds of all repeats, and medians: of the sampling, of the model alone, and until the first chunk was clean."""
    seconds = [video.sample.seconds for video in taken]
    first = [video.first_chunk_seconds for video in taken if video.first_chunk_seconds is not None]
    return {
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "median_model_seconds": statistics.median(video.model_seconds for video in taken),
        "median_first_chunk_seconds": statistics.median(first) if first else None,
        "peak_bytes": max((video.peak_bytes for video in taken if video.peak_bytes is not None), default=None),
    }


def _counted(taken: Taken) -> dict[str, Any]:
    """FLOPs as the cache counts them, or as the meter does where there is no cache of ours."""
    summary = taken.sample.summary
    if summary is None:
        return {"flops": taken.flops, "vanilla_flops": None, "computed_share": None}
    return {
        "flops": summary.flops,
        "vanilla_flops": summary.vanilla_flops,
        "computed_share": summary.computed_share,
    }


def _compared(own: Reference, reference: Reference, bench: BenchModel) -> dict[str, Any]:
    """Fidelity of the whole video, of each chunk, and of the pixels that move in the reference and the others."""
    quality = fidelity(own.frames, reference.frames)
    moving = moving_pixels(reference.frames)
    return {
        "psnr_db": quality.psnr_db,
        "psnr_of_frames_db": statistics.mean(psnr_of_frames(own.frames, reference.frames)),
        "ssim": quality.ssim,
        **perceptual(own.frames, reference.frames),
        "psnr_of_chunks_db": [psnr(own.frames[s], reference.frames[s]) for s in bench.spans(len(own.frames))],
        "psnr_moving_db": psnr_where(own.frames, reference.frames, moving),
        "psnr_still_db": psnr_where(own.frames, reference.frames, ~moving),
        "moving_share": float(moving.float().mean()),
        "latent_mse": float((own.latents.float() - reference.latents.float()).square().mean()),
    }
