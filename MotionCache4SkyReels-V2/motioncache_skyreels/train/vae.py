"""Train the video autoencoder of motioncache-tiny on procedural clips."""

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import nn
from torch.nn.functional import l1_loss, mse_loss

from motioncache_eval.scenes import Scene, draw_scene, draw_split, render
from motioncache_skyreels.train.loop import Losses, TrainConfig, train

SHORT, LONG = (17,), (57, 57, 97)
"""Clip lengths: short ones until `LONG_FROM` of the steps, since they are cheap, then full ones, since the colours of a
model that saw short clips alone drift over a long clip."""

LONG_FROM = 0.55
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


def to_model(video: np.ndarray) -> torch.Tensor:
    """uint8 `[frames, height, width, 3]` to float32 `[1, 3, frames, height, width]` in [-1, 1]."""
    return torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def train_vae(config: TrainConfig) -> AutoencoderKLWan:
    torch.manual_seed(config.seed)
    vae = create_vae().to(config.device)
    average = train(
        vae,
        config,
        loss=lambda step: _vae_loss(vae, step, config),
        validate=Validation(seed=config.seed, device=config.device),
        vectors=("encoder.conv_in", "decoder.conv_out"),
    )
    return set_latent_statistics(average, config)  # pyright: ignore[reportArgumentType]


def train_decoder(config: TrainConfig, vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Train the decoder alone: the latents, and with them what a transformer has learned, stay as they are."""
    vae = vae.to(config.device).requires_grad_(False)
    for part in (vae.post_quant_conv, vae.decoder):
        part.requires_grad_(True)
    return train(  # pyright: ignore[reportReturnType]
        vae,
        config,
        loss=lambda step: _decoder_loss(vae, step, config),
        validate=Validation(seed=config.seed, device=config.device),
        vectors=("decoder.conv_out",),
    )


def set_latent_statistics(vae: AutoencoderKLWan, config: TrainConfig, clips: int = 48) -> AutoencoderKLWan:
    """Write the per-channel mean and deviation of the latents into the config, where the pipeline reads them."""
    with torch.inference_mode():
        latents = torch.cat(
            [
                vae.encode(
                    _clip(np.random.default_rng((config.seed, 2, i)), frames=57).to(config.device)
                ).latent_dist.mode()
                for i in range(clips)
            ]
        )
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return vae


def _clip(rng: np.random.Generator, *, frames: int, scene: Scene | None = None) -> torch.Tensor:
    return to_model(render(scene or draw_scene(rng), rng, frames=frames)[0])


def _crop(rng: np.random.Generator, frames: int) -> torch.Tensor:
    top, left = rng.integers(0, 64 - CROP[0] + 1), rng.integers(0, 96 - CROP[1] + 1)
    return _clip(rng, frames=frames)[..., top : top + CROP[0], left : left + CROP[1]]


def _crops(rng: np.random.Generator, lengths: tuple[int, ...], batch: int) -> torch.Tensor:
    """`[batch, 3, frames, *CROP]` of one length."""
    frames = int(rng.choice(lengths))
    return torch.cat([_crop(rng, frames) for _ in range(batch)])


def _vae_loss(vae: AutoencoderKLWan, step: int, config: TrainConfig) -> Losses:
    rng = np.random.default_rng((config.seed, 0, step))
    short = step < LONG_FROM * config.steps
    clip = _crops(rng, SHORT, SHORT_BATCH) if short else _crops(rng, LONG, LONG_BATCH)
    clip = clip.to(config.device)
    generator = torch.Generator(config.device).manual_seed(int(rng.integers(2**62)))
    with torch.autocast(torch.device(config.device).type, torch.bfloat16):
        posterior = vae.encode(clip).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(
            posterior.mean.shape, generator=generator, device=config.device
        )
        decoded = decode_unclamped(vae, latents)
    losses = _reconstruction(decoded.float(), clip)
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    return {**losses, "loss": losses["loss"] + KL_WEIGHT * kl, "kl": kl}


def _decoder_loss(vae: AutoencoderKLWan, step: int, config: TrainConfig) -> Losses:
    clip = _crops(np.random.default_rng((config.seed, 3, step)), LONG, LONG_BATCH).to(config.device)
    with torch.autocast(torch.device(config.device).type, torch.bfloat16):
        with torch.no_grad():
            latents = vae.encode(clip).latent_dist.mode()
        decoded = decode_unclamped(vae, latents)
    return _reconstruction(decoded.float(), clip)


def _reconstruction(decoded: torch.Tensor, clip: torch.Tensor) -> Losses:
    """Absolute and squared error `[batch, 3, frames, height, width]`, with more weight on the first frame."""
    weight = torch.ones(clip.shape[2], device=clip.device)
    weight[0] = FIRST_FRAME_WEIGHT
    weight = (weight / weight.mean()).view(1, 1, -1, 1, 1)
    absolute = (weight * l1_loss(decoded, clip, reduction="none")).mean()
    squared = (weight * mse_loss(decoded, clip, reduction="none")).mean()
    return {"loss": absolute + 4 * squared, "l1": absolute, "mse": squared}


def decode_unclamped(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """`vae.decode` without its last clamp, through which no gradient would reach saturated pixels."""
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


class Validation:
    """PSNR (dB) of whole clips of captions that the transformer never sees, and of their first frames."""

    def __init__(self, *, seed: int, device: str, clips: int = 8) -> None:
        self._device = device
        self._clips: list[torch.Tensor] = []
        for i in range(clips):
            rng = np.random.default_rng((seed, 1, i))
            self._clips.append(_clip(rng, frames=97, scene=draw_split(rng, held_out=True)))

    @torch.inference_mode()
    def __call__(self, vae: nn.Module) -> dict[str, float]:
        """Mean over the clips, and the lowest."""
        errors = []  # per clip, [frames]
        for clip in self._clips:
            clip = clip.to(self._device)
            decoded = vae.decode(vae.encode(clip).latent_dist.mode()).sample  # pyright: ignore
            errors.append(((decoded - clip) / 2).square().mean((0, 1, 3, 4)))
        error = torch.stack(errors)
        whole, first = (-10 * e.log10() for e in (error.mean(1), error[:, 0]))
        return {
            "psnr_db": float(whole.mean()),
            "first_frame_psnr_db": float(first.mean()),
            "lowest_psnr_db": float(whole.min()),
            "lowest_first_frame_psnr_db": float(first.min()),
        }
