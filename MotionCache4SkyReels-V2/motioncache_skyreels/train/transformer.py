"""Train the diffusion-forcing transformer of motioncache-tiny on latents of procedural clips."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKLWan, SkyReelsV2Transformer3DModel

from motioncache_skyreels.train.forward import training_forward
from motioncache_train.attention import pad_captions
from motioncache_train.captions import EXCHANGES, TEXT_DIM, CaptionEncoder, exchange_words
from motioncache_train.latents import LatentSet, weighted_error
from motioncache_train.loop import Losses, TrainConfig, train
from motioncache_train.wan import wan_clip_encoder

logger = logging.getLogger(__name__)

CHUNK = 5
"""Latent frames in a chunk."""

FLOW_SHIFT = 5.0
CAPTION_DROPOUT = 0.1

PADDED_LENGTHS = (32, 64, 226, 512)
"""Text lengths to which pipelines pad prompts."""

LONG_FROM = 0.3
"""Share of the steps after which clips of several chunks are trained on, too."""


def create_transformer() -> SkyReelsV2Transformer3DModel:
    return SkyReelsV2Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=64,
        in_channels=8,
        out_channels=8,
        text_dim=TEXT_DIM,
        freq_dim=256,
        ffn_dim=512,
        num_layers=6,
        num_frame_per_block=CHUNK,
    )


def draw_timesteps(rng: np.random.Generator, batch: int, chunks: int) -> torch.Tensor:
    """Draw noise levels, float64 `[batch, chunks]` in [0, 1]: 1 for a chunk that has not started, 0 for a finished one.

    Half of the clips of several chunks have the noise levels of asynchronous sampling at a random iteration. In the
    others every chunk has its own, and some of them begin with clean chunks.
    """
    sigma = _shift(rng.uniform(size=(batch, chunks)))
    for row in range(batch if chunks > 1 else 0):
        if rng.uniform() < 0.5:
            sigma[row] = _staircase(rng, chunks)
        elif rng.uniform() < 0.4:
            sigma[row, : rng.integers(0, chunks)] = 0.0
    return torch.from_numpy(sigma)


def _staircase(rng: np.random.Generator, chunks: int) -> np.ndarray:
    """Noise levels of asynchronous sampling at a random iteration, `[chunks]`."""
    steps, lag = int(rng.choice((20, 30, 50))), int(rng.integers(3, 11))
    newest = int(rng.integers(0, chunks))  # the chunk that is being denoised and has the most noise
    taken = rng.uniform(0, lag if newest < chunks - 1 else steps) + lag * (newest - np.arange(chunks))
    return np.where(taken < 0, 1.0, _shift(np.clip(1 - taken / steps, 0, 1)))


def _shift(sigma: np.ndarray) -> np.ndarray:
    """Noise levels under `FLOW_SHIFT`, from levels that fall evenly."""
    return FLOW_SHIFT * sigma / (1 + (FLOW_SHIFT - 1) * sigma)


def train_transformer(
    config: TrainConfig,
    vae: AutoencoderKLWan,
    encode: CaptionEncoder,
    *,
    short_clips: int,
    long_clips: int,
    initial: SkyReelsV2Transformer3DModel | None = None,
) -> SkyReelsV2Transformer3DModel:
    """Train on clips of one chunk first, and later on clips of one chunk and of five chunks in turn.

    The latents in `config.folder.parent / "latents"` are used if they exist. So a continued run with another seed sees
    the same clips with other noise and in another order.

    Args:
        initial: a model to train further, on clips of both lengths from the start.
    """
    data = config.folder.parent / "latents"
    clips = wan_clip_encoder(vae.to(config.device), seed=config.seed, device=config.device, chunk=CHUNK)
    short = clips.load(data / "short.pt", clips=short_clips, chunks=1, held_out=False)
    long = clips.load(data / "long.pt", clips=long_clips, chunks=5, held_out=False)
    check = clips.load(data / "check.pt", clips=48, chunks=1, held_out=True)
    torch.manual_seed(config.seed)
    model = (initial or create_transformer()).to(config.device)
    tables = [f"blocks.{i}.scale_shift_table" for i in range(len(model.blocks))]
    vectors = ("patch_embedding", "proj_out", "condition_embedder", "scale_shift_table", *tables)
    long_from = 0 if initial is not None else int(LONG_FROM * config.steps)
    return train(  # pyright: ignore[reportReturnType]
        model,
        config,
        loss=lambda step: _step_loss(model, step, short, long if step >= long_from else None, encode, config),
        validate=lambda averaged: _validate(averaged, check, encode, config),  # pyright: ignore
        vectors=vectors,
        compiled=model.blocks,
    )


def _step_loss(
    model: SkyReelsV2Transformer3DModel,
    step: int,
    short: LatentSet,
    long: LatentSet | None,
    encode: CaptionEncoder,
    config: TrainConfig,
) -> Losses:
    rng = np.random.default_rng((config.seed, 0, step))
    data, batch, chunks = (short, 24, 1) if long is None or step % 2 else (long, 5, 5)
    rows = rng.integers(0, len(data), size=batch)
    captions = [data.captions[i] if rng.uniform() > CAPTION_DROPOUT else "" for i in rows]
    loss = velocity_loss(model, data, rows, captions, draw_timesteps(rng, batch, chunks), rng, encode, config.device)
    return {"loss": loss, ("short" if data is short else "long"): loss.detach()}


def velocity_loss(
    model: SkyReelsV2Transformer3DModel,
    data: LatentSet,
    rows: np.ndarray,
    captions: list[str],
    sigma: torch.Tensor,
    rng: np.random.Generator,
    encode: Callable[[str], torch.Tensor],
    device: str,
) -> torch.Tensor:
    """Weighted squared error of the velocity (noise - clean) over the chunks that are being denoised."""
    clean = data.latents[rows].float().to(device)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
    timestep = (sigma * 1000).long().clamp(max=999).to(device)
    sigmas = sigma.float().to(device).repeat_interleave(CHUNK, 1)[:, None, :, None, None]
    text, bias = pad_captions([encode(c) for c in captions], torch.from_numpy(rng.choice(PADDED_LENGTHS, len(rows))))
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        velocity = training_forward(
            model, (1 - sigmas) * clean + sigmas * noise, timestep, text.to(device), bias.to(device)
        )
    active = (sigmas > 0) & (sigmas < 1)
    return weighted_error(velocity, noise - clean, data.movers[rows].to(device), active)


@torch.inference_mode()
def _validate(
    model: SkyReelsV2Transformer3DModel, check: LatentSet, encode: CaptionEncoder, config: TrainConfig
) -> dict[str, float]:
    """The loss on captions that are never trained on, with the right words and with one word exchanged."""
    rows = np.arange(len(check))
    sigma = torch.linspace(0.5, 0.98, len(check), dtype=torch.float64)[:, None]
    return {
        name: velocity_loss(
            model,  # pyright: ignore[reportArgumentType]
            check,
            rows,
            [exchange_words(caption, words) for caption in check.captions],
            sigma,
            np.random.default_rng(7),
            encode,
            config.device,
        ).item()
        for name, words in EXCHANGES.items()
    }
