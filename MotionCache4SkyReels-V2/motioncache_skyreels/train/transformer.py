"""Train the diffusion-forcing transformer of motioncache-tiny on latents of procedural clips."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, SkyReelsV2Transformer3DModel
from tqdm import tqdm

from motioncache_eval.scenes import draw_split, render
from motioncache_skyreels.train.forward import pad_captions, training_forward
from motioncache_skyreels.train.loop import Losses, TrainConfig, train
from motioncache_skyreels.train.text import TEXT_DIM, CaptionEncoder
from motioncache_skyreels.train.vae import to_model

logger = logging.getLogger(__name__)

CHUNK = 5
"""Latent frames in a chunk."""

FLOW_SHIFT = 5.0
CAPTION_DROPOUT = 0.1
PADDED_LENGTHS = (32, 64, 226, 512)
LONG_FROM = 0.3
MOVER_WEIGHT = 2.0
"""Extra weight of the loss where a mover is: the background is most of the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSet:
    """Encoded clips: latents float16 `[clips, 8, frames, 16, 24]`, movers uint8 `[clips, frames, 16, 24]`, captions."""

    latents: torch.Tensor
    movers: torch.Tensor
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipEncoder:
    """Encodes procedural clips once and keeps them in a file."""

    vae: AutoencoderKLWan
    seed: int
    device: str = "cpu"

    def load(self, path: Path, *, clips: int, chunks: int, held_out: bool) -> LatentSet:
        """`clips` clips of `chunks` chunks, read from `path` when it exists and else encoded into it."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(self._encode_all(path.name, clips, chunks, held_out), path)
        return LatentSet(**torch.load(path, weights_only=True))

    def _encode_all(self, name: str, clips: int, chunks: int, held_out: bool) -> dict[str, object]:
        latents, movers, captions = [], [], []
        for i in tqdm(range(clips), desc=f"encoding {name}", mininterval=10):
            rng = np.random.default_rng((self.seed, chunks, int(held_out), i))
            scene = draw_split(rng, held_out=held_out)
            video, covered = render(scene, rng, frames=4 * (CHUNK * chunks - 1) + 1)
            latents.append(self._encode(video))
            movers.append(_mover_latents(covered))
            captions.append(scene.caption)
        return {"latents": torch.stack(latents), "movers": torch.stack(movers), "captions": captions}

    @torch.inference_mode()
    def _encode(self, video: np.ndarray) -> torch.Tensor:
        """Normalised latents, float16 `[8, frames, 16, 24]` on the host."""
        config = self.vae.config
        mean, std = (
            torch.tensor(v, device=self.device).view(-1, 1, 1, 1) for v in (config.latents_mean, config.latents_std)
        )
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            encoded = self.vae.encode(to_model(video).to(self.device)).latent_dist.mode()[0]
        return ((encoded.float() - mean) / std).half().cpu()


def _mover_latents(covered: np.ndarray) -> torch.Tensor:
    """Coverage `[frames, height, width]` to the latent grid, uint8: 1 where a mover covers any part of a cell."""
    cells = torch.from_numpy(covered).unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).amax((2, 4))  # [frames, 16, 24]
    later = cells[1:].unflatten(0, (-1, 4)).amax(1)
    return (torch.cat([cells[:1], later]) > 0.05).to(torch.uint8)


def draw_timesteps(rng: np.random.Generator, batch: int, chunks: int) -> torch.Tensor:
    """Noise levels float64 `[batch, chunks]` in [0, 1]; 1 stands for a chunk not started, 0 for a finished one.

    Half of the clips of several chunks follow the staircase of asynchronous sampling at a random iteration, the others
    draw every chunk by itself, some of them with a clean history.
    """
    uniform = rng.uniform(size=(batch, chunks))
    sigma = FLOW_SHIFT * uniform / (1 + (FLOW_SHIFT - 1) * uniform)
    for row in range(batch if chunks > 1 else 0):
        if rng.uniform() < 0.5:
            sigma[row] = _staircase(rng, chunks)
        elif rng.uniform() < 0.4:
            sigma[row, : rng.integers(0, chunks)] = 0.0
    return torch.from_numpy(sigma)


def _staircase(rng: np.random.Generator, chunks: int) -> np.ndarray:
    steps, lag = int(rng.choice((20, 30, 50))), int(rng.integers(3, 11))
    newest = int(rng.integers(0, chunks))  # the chunk that is being denoised and has the most noise
    done = rng.uniform(0, lag if newest < chunks - 1 else steps) + lag * (newest - np.arange(chunks))
    left = np.clip(1 - done / steps, 0, 1)
    return np.where(done < 0, 1.0, FLOW_SHIFT * left / (1 + (FLOW_SHIFT - 1) * left))


def train_transformer(
    config: TrainConfig,
    vae: AutoencoderKLWan,
    encode: CaptionEncoder,
    *,
    short_clips: int,
    long_clips: int,
    initial: SkyReelsV2Transformer3DModel | None = None,
) -> SkyReelsV2Transformer3DModel:
    """Train on clips of one chunk first, then on one chunk and five chunks in turn; an `initial` model skips the first.

    The latents in `config.folder.parent / "latents"` are used where they exist: with another seed, a continued run sees
    the same clips with other noise and in another order.
    """
    data = config.folder.parent / "latents"
    clips = ClipEncoder(vae=vae.to(config.device), seed=config.seed, device=config.device)
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
    weight = 1 + MOVER_WEIGHT * data.movers[rows].float().to(device)[:, None]
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
    timestep = (sigma * 1000).long().clamp(max=999).to(device)
    level = sigma.float().to(device).repeat_interleave(CHUNK, 1)[:, None, :, None, None]
    text, bias = pad_captions([encode(c) for c in captions], torch.from_numpy(rng.choice(PADDED_LENGTHS, len(rows))))
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        velocity = training_forward(
            model, (1 - level) * clean + level * noise, timestep, text.to(device), bias.to(device)
        )
    active = ((level > 0) & (level < 1)).float() * weight
    error = (velocity.float() - (noise - clean)).square() * active
    return error.sum() / (active.expand_as(error).sum().clamp(min=1))


@torch.inference_mode()
def _validate(
    model: SkyReelsV2Transformer3DModel, check: LatentSet, encode: CaptionEncoder, config: TrainConfig
) -> dict[str, float]:
    """Loss on captions that are never trained on, with the right words and with one word exchanged."""
    swaps: dict[str, Callable[[str], str]] = {
        "loss": lambda caption: caption,
        "wrong_direction": lambda caption: _rotate_words(caption, ("left", "right", "up", "down")),
        "wrong_colour": lambda caption: _rotate_words(caption, ("red", "green", "blue", "yellow", "white")),
        "wrong_shape": lambda caption: _rotate_words(caption, ("circle", "square")),
    }
    rows = np.arange(len(check))
    sigma = torch.linspace(0.5, 0.98, len(check), dtype=torch.float64)[:, None]
    return {
        name: velocity_loss(
            model,  # pyright: ignore[reportArgumentType]
            check,
            rows,
            [swap(caption) for caption in check.captions],
            sigma,
            np.random.default_rng(7),
            encode,
            config.device,
        ).item()
        for name, swap in swaps.items()
    }


def _rotate_words(caption: str, words: tuple[str, ...]) -> str:
    following = dict(zip(words, words[1:] + words[:1], strict=True))
    return " ".join(following.get(word, word) for word in caption.split())
