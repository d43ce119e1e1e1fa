"""What a job takes, from the configuration of its variant; no weights are read."""

from dataclasses import replace
from pathlib import Path

import torch

from motioncache.checkpoints import read_mapping
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.none import NoCacheConfig
from motioncache_eval.job_cost import JobCost
from motioncache_eval.jobs import policy_of
from motioncache_eval.memory import Footprint
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.cache.cost import MagiCost
from motioncache_magi.job.config import MagiJobConfig
from motioncache_magi.loading.folders import Folders
from motioncache_magi.memory import memory, schedule_of
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.vae.config import VaeConfig


def job_cost(job: MagiJobConfig) -> JobCost:
    """FLOPs and memory of a job's video. Given frames are not counted; a prompt is as long as prompts may be."""
    places = {"config": job.config, "special_tokens": job.special_tokens}
    found = Folders.find(Path(job.model), variant=job.variant, **{k: Path(v) if v else None for k, v in places.items()})
    config = scaled(
        sized(found.config, job), VaeConfig.from_official(read_mapping(found.vae / "config.json")).patch_size
    )
    footprint = weighed(memory_of_job(config, job), _size(found.t5), _size(found.vae))
    runtime, length = config.runtime, config.model.caption_max_length
    tokens = runtime.chunk_width * (runtime.video_size_h // 16) * (runtime.video_size_w // 16)
    flops = MagiCost(config=config, schedule=schedule_of(config), text_length=length).schedule_flops(tokens)
    return JobCost(flops=flops, memory=footprint.total(offload=job.cpu_offload))


def scaled(config: MagiConfig, patch: int) -> MagiConfig:
    """A configuration with its size in pixels of the released models, whose autoencoder has patches of 8 x 8."""
    height, width = (pixels * 8 // patch for pixels in (config.runtime.video_size_h, config.runtime.video_size_w))
    return replace(config, runtime=replace(config.runtime, video_size_h=height, video_size_w=width))


def weighed(footprint: Footprint, encoder: int, autoencoder: int) -> Footprint:
    """A footprint with the bytes of a text encoder and an autoencoder, where that of the released ones stand."""
    on_the_gpu = {"encoding": encoder} if footprint.encoding else {"text_encoder": encoder}
    return replace(footprint, autoencoder=autoencoder, **on_the_gpu)


def sized(config: MagiConfig, job: MagiJobConfig) -> MagiConfig:
    """A configuration with the sizes that a job names."""
    names = {"num_frames": "num_frames", "height": "video_size_h", "width": "video_size_w"}
    names["num_inference_steps"] = "num_steps"
    given = {theirs: getattr(job, ours) for ours, theirs in names.items() if getattr(job, ours) is not None}
    model = config.model if job.dtype is None else replace(config.model, params_dtype=str(getattr(torch, job.dtype)))
    return replace(config, runtime=replace(config.runtime, **given), model=model)


def memory_of_job(config: MagiConfig, job: MagiJobConfig) -> Footprint:
    """The footprint of a job, whose sizes the configuration has."""
    policy = policy_of(MagiAdapter(), job)
    return memory(
        config,
        job.model,
        kv=policy.kv,
        keeps_active=not isinstance(policy, NoCacheConfig | ForecastConfig),
        keep_fp8=job.weights == "fp8",
    )


def _size(folder: Path) -> int:
    """Bytes of the weights in a folder and those within."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".safetensors", ".bin", ".pth"))
