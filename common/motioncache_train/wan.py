"""Clips as Wan's autoencoder encodes them."""

from typing import Any

import torch

from motioncache_train.latents import ClipEncoder


def wan_clip_encoder(vae: Any, *, seed: int, device: str, chunk: int, apart: bool = False) -> ClipEncoder:
    """An encoder of clips, whose latents are normalised as the pipelines' are; for the rest see `ClipEncoder`.

    Args:
        vae: an `AutoencoderKLWan`.
    """
    mean = torch.tensor(vae.config.latents_mean, device=device).view(-1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std, device=device).view(-1, 1, 1, 1)

    def encode(video: torch.Tensor) -> torch.Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            encoded = vae.encode(video.to(device)).latent_dist.mode()[0]
        return (encoded.float() - mean) / std

    return ClipEncoder(encode=encode, seed=seed, chunk=chunk, first_alone=True, apart=apart)
