"""Trains the autoencoder of motioncache-tiny for MAGI-1 on procedural clips, in tiles as the pipeline uses it."""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import mse_loss

from motioncache_magi.train.forward import attend_by_products
from motioncache_magi.vae.blocks import Attention
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.tiling import Tiling, decode_tiled, encode_tiled
from motioncache_magi.vae.vit import ViTVAE
from motioncache_train.clips import Validation, draw_clip, draw_crops, reconstruction
from motioncache_train.loop import Losses, TrainConfig, train

FPS = 24
TILE_FRAMES = FPS // 2
BATCH = 4
KL_WEIGHT = 3e-4

MOST_NOISE = 0.2
"""Largest noise in the training of the decoder alone, in standard deviations of the latents."""

FLICKER_WEIGHT = 40.0
"""Weight of the squared error of the change from frame to frame: an eye notices a pattern that flickers more easily
than one that rests."""

OFFICIAL_CONFIG: dict[str, Any] = {
    "_class_name": "ViTVAE",
    "model_type": "vit",
    "ddconfig": {
        "video_size": 64,
        "video_length": TILE_FRAMES,
        "patch_size": 4,
        "patch_length": 4,
        "in_chans": 3,
        "z_chans": 16,
        "double_z": True,
        "embed_dim": 256,  # 4 channels per pixel, as in the released one; with 2 channels, all colours fell on a plane
        "depth": 2,
        "num_heads": 2,
        "mlp_ratio": 2,
        "qkv_bias": True,
        "qk_scale": None,
        "drop_rate": 0.0,
        "attn_drop_rate": 0.0,
        "drop_path_rate": 0.0,
        "with_cls_token": True,
        "norm_code": False,
        "ln_in_attn": True,
        "conv_last_layer": True,
        "use_rope": False,
        "use_final_proj": False,
    },
}


def create_vae() -> ViTVAE:
    """Create an autoencoder that compresses 4x in time, height and width, to 16 latent channels."""
    vae = ViTVAE(VaeConfig.from_official(OFFICIAL_CONFIG))
    for name, parameter in vae.named_parameters():
        if "pos_embed" in name or "cls_token" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return vae


def attend_fast(vae: ViTVAE) -> ViTVAE:
    """Replace the attention on a CPU by plain matrix products, which take half the time in bfloat16."""
    if next(vae.parameters()).device.type == "cpu":
        for module in vae.modules():
            if isinstance(module, Attention):
                module.attend = attend_by_products
    return vae


def train_vae(config: TrainConfig) -> ViTVAE:
    torch.manual_seed(config.seed)
    vae = attend_fast(create_vae().to(config.device))
    return train(  # pyright: ignore[reportReturnType]
        vae,
        config,
        loss=lambda step: _loss(vae, step, config),
        validate=Validation(reconstruct, seed=config.seed, device=config.device, frames=96),
        vectors=("encoder.patch_embed", "encoder.pos_embed", "encoder.cls", "decoder.pos_embed", "decoder.cls",
                 "decoder.last_layer"),
    )  # fmt: skip


def train_decoder(config: TrainConfig, vae: ViTVAE) -> ViTVAE:
    """Train the decoder alone, on latents with noise such as a denoiser leaves behind.

    The encoder does not change, so that a denoiser that was trained on its latents stays valid.
    """
    vae = attend_fast(vae.to(config.device).requires_grad_(False))
    vae.decoder.requires_grad_(True)
    return train(  # pyright: ignore[reportReturnType]
        vae,
        config,
        loss=lambda step: _decoder_loss(vae, step, config),
        validate=Validation(reconstruct, seed=config.seed, device=config.device, frames=96),
        vectors=("decoder.pos_embed", "decoder.cls", "decoder.last_layer"),
    )


def reconstruct(vae: ViTVAE, clip: torch.Tensor) -> torch.Tensor:
    """Encode and decode a clip in tiles, as the pipeline does."""
    tiling = Tiling.for_frame_rate(FPS)
    return decode_tiled(vae, encode_tiled(vae, clip, tiling), tiling)


def _loss(vae: ViTVAE, step: int, config: TrainConfig) -> Losses:
    rng = np.random.default_rng((config.seed, 0, step))
    clip = draw_crops(rng, (TILE_FRAMES,), BATCH, (64, 96)).to(config.device)
    generator = torch.Generator(config.device).manual_seed(int(rng.integers(2**62)))
    with torch.autocast(torch.device(config.device).type, torch.bfloat16):
        mean, log_variance = vae.moments(clip).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        noise = torch.randn(mean.shape, generator=generator, device=config.device)
        decoded = vae.decode(mean + (0.5 * log_variance).exp() * noise)
    losses = reconstruction(decoded.float(), clip)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    return {**losses, "loss": losses["loss"] + KL_WEIGHT * kl, "kl": kl}


def _decoder_loss(vae: ViTVAE, step: int, config: TrainConfig) -> Losses:
    rng = np.random.default_rng((config.seed, 3, step))
    clip = draw_crops(rng, (TILE_FRAMES,), BATCH, (64, 96)).to(config.device)
    generator = torch.Generator(config.device).manual_seed(int(rng.integers(2**62)))
    with torch.autocast(torch.device(config.device).type, torch.bfloat16):
        with torch.no_grad():
            latents = vae.encode(clip).float()
        drawn = rng.uniform(0, MOST_NOISE, (BATCH, 1, 1, 1, 1)).astype(np.float32)
        noise_level = torch.from_numpy(drawn).to(config.device)
        noise = torch.randn(latents.shape, generator=generator, device=config.device)
        decoded = vae.decode(latents + noise_level * latents.std() * noise).float()
    losses = reconstruction(decoded, clip)
    flicker = mse_loss(decoded.diff(dim=2), clip.diff(dim=2))
    return {**losses, "loss": losses["loss"] + FLICKER_WEIGHT * flicker, "flicker": flicker}


@torch.inference_mode()
def scale_factor(vae: ViTVAE, config: TrainConfig, clips: int = 24) -> float:
    """Measure the factor that gives the latents a root mean square of 1."""
    latents = [
        vae.encode(draw_clip(np.random.default_rng((config.seed, 2, i)), frames=TILE_FRAMES).to(config.device))
        for i in range(clips)
    ]
    return float(1 / torch.stack(latents).square().mean().sqrt())
