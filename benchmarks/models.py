"""The models that the benchmark scripts measure, behind one face."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from motioncache.api import Adapter, resolve_preset
from motioncache.config import PolicyConfig
from motioncache_eval.sampling import Sample, take_sample
from motioncache_magi.adapter import MagiAdapter
from motioncache_magi.job import sample as magi
from motioncache_magi.job.config import load_magi_job
from motioncache_magi.policy import MagiMotionCacheConfig, Residual
from motioncache_magi.train.vae import reconstruct as reconstruct_magi
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cli import quiet_libraries
from motioncache_skyreels.job import sample as skyreels
from motioncache_skyreels.job.config import load_job
from motioncache_skyreels.job.load import load_pipeline
from motioncache_skyreels.train.vae import reconstruct as reconstruct_skyreels

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ("exact", "slow", "fast")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A loaded model, warmed up, and how it is sampled.

    Attributes:
        job: the main job's configuration, with overrides.
        call: samples what a job says and returns latents.
        decode: latents to float frames `[frames, 3, height, width]` in [0, 1] on the host.
        reconstruct: the autoencoder's way there and back, for clips of `clip_frames` frames.
        chunks: frames of the first chunk and of every other one.
        steps: numbers of denoise steps to look at the model itself with.
        tiers: policies to compare with the video as the pipeline samples it alone.
    """

    adapter: Adapter
    job: Any
    pipeline: Any
    call: Callable[[Any, Any], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]
    reconstruct: Callable[..., torch.Tensor]
    clip_frames: int
    chunks: tuple[int, int]
    steps: tuple[int, int]
    tiers: dict[str, PolicyConfig]

    def sample(self, job: Any, policy: PolicyConfig | None) -> Sample:
        return take_sample(self.pipeline, partial(self.call, self.pipeline, job), policy, device=job.device)


def load_skyreels(overrides: list[str]) -> Bench:
    job = load_job(ROOT / "addconfig" / "config.yaml", overrides)
    pipeline = load_pipeline(job)
    pipeline.set_progress_bar_config(disable=True)
    skyreels.warm_up(pipeline, job)
    return Bench(
        adapter=SkyReelsAdapter(),
        job=job,
        pipeline=pipeline,
        call=skyreels.run_pipeline,
        decode=partial(skyreels.decode, pipeline),
        reconstruct=reconstruct_skyreels,
        clip_frames=97,
        chunks=(4 * job.causal_block_size - 3, 4 * job.causal_block_size),
        steps=(50, 30),
        tiers={preset: resolve_preset(SkyReelsAdapter(), preset) for preset in PRESETS},
    )


def load_magi(overrides: list[str]) -> Bench:
    pipeline, job = magi.load_pipeline(load_magi_job(ROOT / "MotionCache4MAGI-1" / "addconfig" / "job.yaml", overrides))
    pipeline.set_progress_bar_config(disable=True)
    magi.warm_up(pipeline, job)
    frames = pipeline.config.runtime.chunk_width * pipeline.config.runtime.temporal_downsample_factor
    return Bench(
        adapter=MagiAdapter(),
        job=job,
        pipeline=pipeline,
        call=magi.run_pipeline,
        decode=partial(magi.decode, pipeline, job),
        reconstruct=reconstruct_magi,
        clip_frames=96,
        chunks=(frames, frames),
        steps=(64, 32),
        tiers=magi_tiers(),
    )


def magi_tiers() -> dict[str, PolicyConfig]:
    """The presets, each with the other kind of residual, and `slow` as the published code behaves."""
    tiers: dict[str, PolicyConfig] = {preset: resolve_preset(MagiAdapter(), preset) for preset in PRESETS}
    for preset in PRESETS[1:]:
        config = tiers[preset]
        assert isinstance(config, MagiMotionCacheConfig)
        other = next(residual for residual in Residual if residual is not config.residual)
        tiers[f"{preset}, {other.value}"] = replace(config, residual=other)
    published = {"residual": Residual.displacement, "reference_quirks": True}
    tiers["slow, published code"] = replace(
        tiers["slow"],
        **published,
        refresh_clean=False,
        nearly_clean=False,  # pyright: ignore[reportCallIssue]
    )
    return tiers


LOADERS = {"skyreels-v2": load_skyreels, "magi-1": load_magi}


def load(model: str, overrides: list[str]) -> Bench:
    """One of `LOADERS`, with the terminal left to our own lines."""
    quiet_libraries()
    return LOADERS[model](overrides)


def portable(job: Any) -> dict[str, object]:
    """The configuration with paths from the repository on, as they are the same on every machine."""
    root = f"{ROOT}/"
    return {key: value.removeprefix(root) if isinstance(value, str) else value for key, value in asdict(job).items()}
