"""Train the video autoencoder of motioncache-tiny on procedural clips."""

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from motioncache_train.clips import Validation, draw_clip, draw_crops, reconstruction
from motioncache_train.loop import Losses, TrainConfig, train

SHORT, LONG = (17,), (57, 57, 97)
"""Frames of short and of long clips. Short ones are cheap, but the colours of a model that has seen only short clips
drift over a long one."""

LONG_FROM = 0.55
"""Share of the steps after which the clips are long."""

SHORT_BATCH, LONG_BATCH = 4, 2

CROP = (32, 48)
FIRST_FRAME_WEIGHT = 8.0
"""The first frame has a latent of its own but is a small part of the loss: unweighted, it stays blurred."""

KL_WEIGHT = 3e-4


def create_vae() -> AutoencoderKLWan:
    """A Wan autoencoder with 4x compression in time, height and width, and 8 latent channels."""
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=8,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[True, True],
        latents_mean=[0.0] * 8,
        latents_std=[1.0] * 8,
        scale_factor_spatial=4,
    )


def train_vae(config: TrainConfig) -> AutoencoderKLWan:
    """Train a new autoencoder."""
    torch.manual_seed(config.seed)
    vae = create_vae().to(config.device)
    average = train(
        vae,
        config,
        loss=lambda step: _vae_loss(vae, step, config),
        validate=Validation(reconstruct, seed=config.seed, device=config.device),
        vectors=("encoder.conv_in", "decoder.conv_out"),
    )
    return set_latent_statistics(average, config)  # pyright: ignore[reportArgumentType]


def train_decoder(config: TrainConfig, vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Train the decoder alone: the latents do not change, so a transformer that was trained on them still fits."""
    vae = freeze_encoder(vae.to(config.device))
    return train(  # pyright: ignore[reportReturnType]
        vae,
        config,
        loss=lambda step: _decoder_loss(vae, step, config),
        validate=Validation(reconstruct, seed=config.seed, device=config.device),
        vectors=("decoder.conv_out",),
    )


def freeze_encoder(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Let only the decoder be trained."""
    vae.requires_grad_(False)
    for part in (vae.post_quant_conv, vae.decoder):
        part.requires_grad_(True)
    return vae


def set_latent_statistics(vae: AutoencoderKLWan, config: TrainConfig, clips: int = 48) -> AutoencoderKLWan:
    """Write the per-channel mean and deviation of the latents into the config, where the pipeline reads them."""
    drawn = (draw_clip(np.random.default_rng((config.seed, 2, i)), frames=57) for i in range(clips))
    with torch.inference_mode():
        latents = torch.cat([vae.encode(clip.to(config.device)).latent_dist.mode() for clip in drawn])
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return vae


def _vae_loss(vae: AutoencoderKLWan, step: int, config: TrainConfig) -> Losses:
    rng = np.random.default_rng((config.seed, 0, step))
    lengths, batch = (SHORT, SHORT_BATCH) if step < LONG_FROM * config.steps else (LONG, LONG_BATCH)
    clip = draw_crops(rng, lengths, batch, CROP).to(config.device)
    generator = torch.Generator(config.device).manual_seed(int(rng.integers(2**62)))
    with torch.autocast(torch.device(config.device).type, torch.bfloat16):
        posterior = vae.encode(clip).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(
            posterior.mean.shape, generator=generator, device=config.device
        )
        decoded = decode_unclamped(vae, latents)
    losses = reconstruction(decoded.float(), clip, first_frame=FIRST_FRAME_WEIGHT)
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    return {**losses, "loss": losses["loss"] + KL_WEIGHT * kl, "kl": kl}


def _decoder_loss(vae: AutoencoderKLWan, step: int, config: TrainConfig) -> Losses:
    clip = draw_crops(np.random.default_rng((config.seed, 3, step)), LONG, LONG_BATCH, CROP).to(config.device)
    with torch.autocast(torch.device(config.device).type, torch.bfloat16):
        with torch.no_grad():
            latents = vae.encode(clip).latent_dist.mode()
        decoded = decode_unclamped(vae, latents)
    return reconstruction(decoded.float(), clip, first_frame=FIRST_FRAME_WEIGHT)


def decode_unclamped(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Decode without the last clamp of `vae.decode`, which would pass no gradient to saturated pixels."""
    vae.clear_cache()
    features = vae.post_quant_conv(latents)
    frames = []
    for i in range(latents.shape[2]):
        vae._conv_idx = [0]
        frames.append(
            vae.decoder(features[:, :, i : i + 1], feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=i == 0)
        )
    vae.clear_cache()
    return torch.cat(frames, dim=2)


def reconstruct(vae: AutoencoderKLWan, clip: torch.Tensor) -> torch.Tensor:
    """Encode and decode a clip."""
    return vae.decode(vae.encode(clip).latent_dist.mode()).sample
