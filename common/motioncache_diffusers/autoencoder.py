"""Wan's autoencoder: from a pipeline's latents to frames."""

from typing import Any

import torch


@torch.inference_mode()
def decode(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Turn latents into float frames `[frames, 3, height, width]` in [0, 1] on the host, as the pipeline does."""
    vae = pipeline.vae
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1).to(latents.device, vae.dtype)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1).to(latents.device, vae.dtype)
    latents = latents.to(vae.dtype) * std + mean
    video = vae.decode(latents).sample[0].float().cpu()
    pipeline.maybe_free_model_hooks()
    return ((video + 1) / 2).clamp(0, 1).permute(1, 0, 2, 3)
