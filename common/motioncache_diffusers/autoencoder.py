"""Wan's autoencoder: from a pipeline's latents to frames."""

from typing import Any

import torch


@torch.inference_mode()
def decode(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Turn latents into float frames `[frames, 3, height, width]` in [0, 1] on the host, as the pipeline does."""
    video = pipeline.vae.decode(scaled(pipeline.vae, latents)).sample
    pipeline.maybe_free_model_hooks()
    return to_frames(video)


def scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents as the autoencoder has them, in its dtype, on the device where they are."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1).to(latents.device, vae.dtype)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1).to(latents.device, vae.dtype)
    return latents.to(vae.dtype) * std + mean


def to_frames(video: torch.Tensor) -> torch.Tensor:
    """What the autoencoder decodes, `[1, 3, frames, height, width]` in [-1, 1], as `decode` returns it."""
    return ((video[0].float().cpu() + 1) / 2).clamp(0, 1).permute(1, 0, 2, 3)
