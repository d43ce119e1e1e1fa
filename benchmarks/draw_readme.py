"""Draws the pictures of README.md: `python benchmarks/draw_readme.py` samples the demo's prompt three times.

`docs/decisions.png` shows what MotionCache as published computed, and what `forecast` computed with as many FLOPs;
`docs/strip.png` shows frames of the uncached video and of both, and how far they are from it.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.registry import resolve_preset
from motioncache_diffusers.autoencoder import decode
from motioncache_diffusers.terminal import quiet_libraries
from motioncache_eval.figures import draw_comparison, draw_strip
from motioncache_eval.metrics import fidelity
from motioncache_eval.page.view import DIFFERENCE, difference
from motioncache_eval.sampling import Sample
from motioncache_eval.video import to_uint8
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.job.config import load_job
from motioncache_skyreels.job.load import load_pipeline
from motioncache_skyreels.job.sample import sample

ROOT = Path(__file__).resolve().parents[1]

PRESETS = {"slow (MotionCache)": "slow", "forecast": "forecast"}
"""The presets by the names that the pictures give them; the second gets as many FLOPs as the first took."""


def main() -> None:
    quiet_libraries()
    samples, videos = take_samples()
    maps = {describe(name, samples[name], videos): samples[name].trace for name in PRESETS}
    draw_comparison(ROOT / "docs" / "decisions.png", {title: trace for title, trace in maps.items() if trace})
    draw_strip(ROOT / "docs" / "strip.png", with_differences({name: to_uint8(video) for name, video in videos.items()}))


def take_samples() -> tuple[dict[str, Sample], dict[str, torch.Tensor]]:
    """The samples and their decoded videos, without a cache and with each of `PRESETS`."""
    job = load_job(ROOT / "addconfig" / "config.yaml", [])
    pipeline, adapter = load_pipeline(job), SkyReelsAdapter()
    samples = {"no cache": sample(pipeline, job, None)}
    target = None
    for name, preset in PRESETS.items():
        samples[name] = sample(pipeline, job, resolve_preset(adapter, preset, target))
        target = fewer_flops(samples[name])
    return samples, {name: decode(pipeline, taken.latents) for name, taken in samples.items()}


def describe(name: str, taken: Sample, videos: dict[str, torch.Tensor]) -> str:
    """The title of a map."""
    assert taken.summary is not None
    cost = f"{taken.summary.flops / 1e12:.2f} TFLOPs, {fewer_flops(taken):.1f} times fewer than without a cache"
    return f"{name}: {cost}; {fidelity(videos[name], videos['no cache']).psnr_db:.1f} dB from that video"


def with_differences(videos: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """The rows of the strip: each video with a cache is followed by how far it is from the one without."""
    rows: dict[str, NDArray[np.uint8]] = {}
    for name, frames in videos.items():
        rows[name] = frames
        if name in PRESETS:
            rows[f"{name},\ndifference x {DIFFERENCE}"] = difference(frames, videos["no cache"])
    return rows


def fewer_flops(taken: Sample) -> float:
    assert taken.summary is not None
    return taken.summary.vanilla_flops / taken.summary.flops


if __name__ == "__main__":
    main()
