"""What a job takes, from the configurations of its checkpoint; no weights are read."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from diffusers import AutoencoderKLWan, SkyReelsV2Transformer3DModel
from transformers import AutoConfig, UMT5EncoderModel

from motioncache.errors import MotionCacheError
from motioncache.grid import TokenGrid
from motioncache.record import WindowShape
from motioncache_eval.job_cost import JobCost
from motioncache_eval.jobs import policy_of
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.guards import VideoSize
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.memory import memory_of_job
from motioncache_skyreels.window import BRANCHES

FACTOR = 4
"""Frames per latent frame of Wan's autoencoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A checkpoint's transformer without memory, parameters of the other parts, and pixels per latent pixel."""

    transformer: SkyReelsV2Transformer3DModel
    encoder: int
    autoencoder: int
    factor: int


def job_cost(job: JobConfig) -> JobCost:
    """FLOPs and memory of a job's video."""
    parts = _read_parts(job.model)
    # As the estimate takes sizes in pixels of the released models, with their autoencoder of 8 x 8 pixels.
    scaled = replace(job, height=job.height * 8 // parts.factor, width=job.width * 8 // parts.factor)
    footprint = memory_of_job(parts.transformer, scaled, policy_of(SkyReelsAdapter(), job))
    itemsize: int = getattr(torch, job.dtype).itemsize
    weighed = replace(footprint, text_encoder=parts.encoder * itemsize, autoencoder=parts.autoencoder * 4)
    flops = SkyReelsCost.of(parts.transformer).vanilla(windows_of(parts.transformer, scaled))
    return JobCost(flops=flops, memory=weighed.total(offload=job.cpu_offload))


@lru_cache(maxsize=8)
def _read_parts(model: str) -> _Parts:
    try:
        transformer_config: Any = SkyReelsV2Transformer3DModel.load_config(model, subfolder="transformer")
        autoencoder_config: Any = AutoencoderKLWan.load_config(model, subfolder="vae")
        text: Any = AutoConfig.from_pretrained(model, subfolder="text_encoder")
    except (OSError, ValueError) as error:
        raise MotionCacheError(f"the model {model} cannot be read: {' '.join(str(error).split())[:300]}") from None
    with torch.device("meta"):
        transformer: Any = SkyReelsV2Transformer3DModel.from_config(transformer_config)
        others: list[Any] = [UMT5EncoderModel(text), AutoencoderKLWan.from_config(autoencoder_config)]
    encoder, autoencoder = (sum(one.numel() for one in part.parameters()) for part in others)
    factor: int = autoencoder_config.get("scale_factor_spatial") or 8
    return _Parts(transformer=transformer, encoder=encoder, autoencoder=autoencoder, factor=factor)


def windows_of(transformer: SkyReelsV2Transformer3DModel, job: JobConfig) -> list[WindowShape]:
    """The windows that a job is sampled in, of latents of 8 x 8 pixels."""
    _, rows, columns = transformer.config.patch_size
    causal = job.causal_block_size > 1
    windows: list[WindowShape] = []
    for frames, given in _lengths(job):
        grid = TokenGrid(
            frames=frames,
            height=job.height // 8 // rows,
            width=job.width // 8 // columns,
            chunk_frames=job.causal_block_size if causal else frames,
        )
        lag = min(job.ar_step, job.num_inference_steps) if causal else 0
        iterations = job.num_inference_steps + (grid.chunks - given // grid.chunk_frames - 1) * lag
        branches = BRANCHES if job.guidance_scale > 1 else BRANCHES[:1]
        windows.append(WindowShape(grid=grid, iterations=iterations, branches=branches, causal=causal))
    return windows


def _lengths(job: JobConfig) -> list[tuple[int, int]]:
    """Latent frames of each window, and how many of them are given by the window before."""
    size = VideoSize(num_frames=job.num_frames, chunk=job.causal_block_size, factor=FACTOR)
    if not job.long or job.overlap_history is None:
        return [(size.latent_frames, 0)]
    base, overlap = ((frames - 1) // FACTOR + 1 for frames in (job.base_num_frames, job.overlap_history))
    found, done = [(base, 0)], base
    while done < size.latent_frames:
        added = min(base - overlap, size.latent_frames - done)
        found.append((added + overlap, overlap))
        done += added
    return found
