"""Trains the DiT of motioncache-tiny for MAGI-1 on latents of procedural clips, at the times of the window schedule."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule
from motioncache_magi.sampling.step import Step
from motioncache_magi.text.chunks import NULL_TEXT_LENGTH
from motioncache_magi.train.forward import TrainChunk, training_forward
from motioncache_magi.train.vae import FPS, attend_fast
from motioncache_magi.vae.tiling import Tiling, encode_tiled
from motioncache_magi.vae.vit import ViTVAE
from motioncache_train.captions import EXCHANGES, TEXT_DIM, CaptionEncoder, exchange_words
from motioncache_train.latents import ClipEncoder, LatentSet, weighted_error
from motioncache_train.loop import Losses, TrainConfig, train

CHUNK = 6
"""Latent frames of a chunk."""

CHUNKS = 4
"""Chunks of a long clip, and of a window."""

LONG_FROM = 0.3
"""Share of the training after which it takes long clips as well."""

SHORT_BATCH, LONG_BATCH = 20, 5
STEPS = (16, 32, 64)
"""Numbers of denoise steps of the schedules that times are drawn from."""

TEXT_SCALES = (4.0, 4.0, 4.0, 0.0, 0.0)
"""Guidance by time; the released scale of 7.5 frays the shapes of a small model."""

NO_TEXT, ALONE = 0.12, 0.08
"""Share of the clips that are trained without a caption, and of those whose chunks see neither caption nor past."""


def tiny_config(scale_factor: float) -> MagiConfig:
    """Create the configuration of the small base model."""
    config = released("4.5B_base")
    model = replace(
        config.model,
        num_layers=6,
        hidden_size=128,
        ffn_hidden_size=512,
        num_attention_heads=2,
        num_query_groups=2,
        kv_channels=64,
        params_dtype="torch.float32",
        caption_channels=TEXT_DIM,
        caption_max_length=64,
    )
    runtime = replace(
        config.runtime,
        num_frames=4 * CHUNK * CHUNKS,
        video_size_h=64,
        video_size_w=96,
        scale_factor=scale_factor,
        text_scales=TEXT_SCALES,
    )
    return replace(config, model=model, runtime=runtime)


def clip_encoder(vae: ViTVAE, *, scale: float, seed: int, device: str) -> ClipEncoder:
    tiling = Tiling.for_frame_rate(FPS)
    vae = attend_fast(vae.to(device))

    def encode(video: torch.Tensor) -> torch.Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            return encode_tiled(vae, video.to(device), tiling)[0].float() * scale

    return ClipEncoder(
        encode=encode,
        seed=seed,
        chunk=CHUNK,
        first_alone=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Encoded clips.

    Attributes:
        long: clips of a whole window.
        short: the single chunks of the long clips.
        check: clips of one chunk, for validation.
    """

    long: LatentSet
    short: LatentSet
    check: LatentSet


def load_clips(config: TrainConfig, vae: ViTVAE, scale: float, *, long_clips: int, two_movers: int) -> Clips:
    """Read the clips from their files, or encode them.

    Args:
        long_clips: number of clips of a whole window.
        two_movers: number of additional clips with two movers, which a small model finds hardest and sees seldom.
    """
    data = config.folder.parent / "latents"
    clips = clip_encoder(vae, scale=scale, seed=config.seed, device=config.device)
    long = clips.load(data / "long.pt", clips=long_clips, chunks=CHUNKS, held_out=False)
    if two_movers:
        long += clips.load(data / "two.pt", clips=two_movers, chunks=CHUNKS, held_out=False, kind="two")
    return Clips(
        long=long,
        short=single_chunks(long),
        check=clips.load(data / "check.pt", clips=48, chunks=1, held_out=True),
    )


def single_chunks(clips: LatentSet) -> LatentSet:
    """Make a clip of every chunk.

    This is possible because a chunk is encoded by itself, and because movers never turn round.
    """
    return LatentSet(
        latents=clips.latents.unflatten(2, (-1, CHUNK)).transpose(1, 2).flatten(0, 1),
        movers=clips.movers.unflatten(1, (-1, CHUNK)).flatten(0, 1),
        captions=[caption for caption in clips.captions for _ in range(clips.latents.shape[2] // CHUNK)],
    )


def train_transformer(
    config: TrainConfig, clips: Clips, settings: MagiConfig, encode: CaptionEncoder, *, initial: VideoDiT | None = None
) -> VideoDiT:
    """Train on clips of one chunk first, then on clips of one chunk and of a whole window in turn.

    Args:
        initial: a model to train further, which begins with the second part; None trains a new model.
    """
    torch.manual_seed(config.seed)
    model = (initial or create_dit(settings)).to(config.device).requires_grad_(True)
    long_from = 0 if initial is not None else int(LONG_FROM * config.steps)
    return train(  # pyright: ignore[reportReturnType]
        model,
        config,
        loss=lambda step: _step_loss(model, step, clips, encode, config, use_long=step >= long_from and step % 2 == 0),
        validate=lambda averaged: _validate(averaged, clips.check, encode, config),  # pyright: ignore
        vectors=("x_embedder", "t_embedder", "y_embedder", "final_linear", "rope"),
    )


def create_dit(config: MagiConfig) -> VideoDiT:
    model = VideoDiT(config.model)
    torch.nn.init.normal_(model.y_embedder.null_caption_embedding)
    for name, parameter in model.named_parameters():
        if "layernorm" in name or "post_norm" in name or name.endswith("final_layernorm.weight"):
            torch.nn.init.zeros_(parameter)  # these norms store their weight minus one
    return model


def _step_loss(
    model: VideoDiT, step: int, clips: Clips, encode: CaptionEncoder, config: TrainConfig, *, use_long: bool
) -> Losses:
    rng = np.random.default_rng((config.seed, 0, step))
    data, batch = (clips.long, LONG_BATCH) if use_long else (clips.short, SHORT_BATCH)
    rows = rng.integers(0, len(data), size=batch)
    loss = velocity_loss(model, data, rows, [data.captions[i] for i in rows], rng, encode, config.device)
    return {"loss": loss, ("long" if use_long else "short"): loss.detach()}


def velocity_loss(
    model: VideoDiT,
    data: LatentSet,
    rows: np.ndarray,
    captions: list[str],
    rng: np.random.Generator,
    encode: CaptionEncoder,
    device: str,
    *,
    positions: np.ndarray | None = None,
) -> torch.Tensor:
    """Compute the weighted squared error of the velocity (clean - noise) of the chunks that are being denoised.

    Args:
        rows: indices of the clips in `data`.
        positions: position of each clip in its schedule, from 0 to 1; every clip then has its caption and its past.
            None draws the positions, and which clips lack their caption or their past.
    """
    clean = data.latents[rows].float().to(device)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
    movers = data.movers[rows].to(device)
    null = Text(model.embed_text(model.y_embedder.null_caption_embedding[:NULL_TEXT_LENGTH]))
    clips, targets, weights = [], [], []
    for i, caption in enumerate(captions):
        kind = rng.uniform() if positions is None else 1.0
        position = rng.uniform() if positions is None else positions[i]
        chunks = clean.shape[2] // CHUNK
        step, times = draw_step(rng, chunks, position, int(rng.choice(STEPS)))
        text = null if kind < NO_TEXT + ALONE else Text(model.embed_text(encode(caption).to(device)))
        made = clip_chunks(clean[i], noise[i], step, times, text, null, alone=kind < ALONE)
        clips.append(made)
        for chunk in step.window:
            here = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            targets.append((clean[i] - noise[i])[:, here])
            weights.append(movers[i, here])
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        velocity = torch.stack(training_forward(model, clips))
    return weighted_error(velocity, torch.stack(targets), torch.stack(weights), torch.ones((), device=device))


def draw_step(rng: np.random.Generator, chunks: int, position: float, steps: int) -> tuple[Step, list[float]]:
    """Return the step at `position` of the window schedule, and the times of all steps.

    All times are moved towards the next one, by the same random share of a step.
    """
    schedule = WindowSchedule(chunks=chunks, prefix_chunks=0, steps=steps, window=4, ranges=(5, 4, 3, 2), clean_range=1)
    step = list(schedule)[min(int(position * schedule.total), schedule.total - 1)]
    times = time_schedule(steps)
    moved = times[:-1] + (times[1:] - times[:-1]) * float(rng.uniform())
    return step, moved.tolist()


def clip_chunks(
    clean: torch.Tensor,
    noise: torch.Tensor,
    step: Step,
    times: list[float],
    text: Text,
    null: Text,
    *,
    alone: bool,
    distilled: bool = False,
) -> list[TrainChunk]:
    """Prepare the chunks of a clip at a step: the clean chunk that the window attends to, then the window.

    Args:
        times: times of all denoise steps.
        alone: whether every chunk sees itself only; there is no clean chunk then.
        distilled: whether the model is a distilled one. The condition of a base model says of a clean chunk that its
            caption is dropped; that of a distilled one does not.
    """
    made: list[TrainChunk] = []
    first = step.window.start if alone else max(step.window.start - 1, 0)
    for chunk in range(first, step.window.stop):
        here = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        denoised = chunk in step.window
        index = chunk - step.window.start
        t = times[step.counts[index]] if denoised else 0.9999
        seen = step.ranges[index] if denoised else (chunk, chunk + 1)
        made.append(
            TrainChunk(
                latents=(1 - t) * noise[:, here] + t * clean[:, here] if denoised else clean[:, here],
                position=0 if alone else chunk,
                t=t,
                dropped=text is null if denoised else not distilled,
                text=text if denoised else null,
                seen=(len(made), len(made) + 1) if alone else (max(seen[0] - first, 0), seen[1] - first),
                counts=denoised,
            )
        )
    return made


@torch.inference_mode()
def _validate(model: VideoDiT, check: LatentSet, encode: CaptionEncoder, config: TrainConfig) -> dict[str, float]:
    """Compute the loss on captions that are never trained on, with the right words and with one word exchanged."""
    rows = np.arange(len(check))
    return {
        name: velocity_loss(
            model,
            check,
            rows,
            [exchange_words(caption, words) for caption in check.captions],
            np.random.default_rng(7),
            encode,
            config.device,
            positions=np.linspace(0.02, 0.75, len(check)),
        ).item()
        for name, words in EXCHANGES.items()
    }
