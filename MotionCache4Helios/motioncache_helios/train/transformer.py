"""Train the transformer of motioncache-tiny, chunk by chunk, on latents of procedural clips."""

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKLWan, HeliosTransformer3DModel

from motioncache_helios.embedding import History
from motioncache_helios.train.forward import training_forward
from motioncache_train.attention import pad_captions
from motioncache_train.captions import EXCHANGES, TEXT_DIM, CaptionEncoder, exchange_words
from motioncache_train.latents import LatentSet, weighted_error
from motioncache_train.loop import Losses, TrainConfig, train
from motioncache_train.wan import wan_clip_encoder

CHUNK = 9
"""Latent frames of a chunk, the pipeline's default: 33 frames, encoded by themselves."""

LONG, MID, SHORT = 16, 2, 1
"""Latent frames of the history at each resolution, the pipeline's default."""

CHUNKS = 3
"""Chunks of a training clip: the third one's history is as full as that of any later one."""

BATCH = 8
CAPTION_DROPOUT = 0.1

FLOW_SHIFT = 3.0
"""Noise levels are drawn with this shift; the scheduler's own, at this size, is 1.8."""

NOISY_HISTORY = 0.5
LARGEST_HISTORY_NOISE = 0.2
"""How often the history is noisy, and how much at most: the pipeline adds noise of 0.11 to 0.135 to a given image or
video, and what the model has sampled itself is never as clean as a clip."""

PADDED_LENGTHS = (32, 64, 226, 512)
"""Text lengths to which pipelines pad prompts."""


def create_transformer() -> HeliosTransformer3DModel:
    """A transformer of random weights, of the size of the SkyReels-V2 one."""
    return HeliosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=64,
        in_channels=8,
        out_channels=8,
        text_dim=TEXT_DIM,
        freq_dim=256,
        ffn_dim=512,
        num_layers=6,
        rope_dim=(24, 20, 20),
    )


def create_from_wan(weights: dict[str, torch.Tensor]) -> HeliosTransformer3DModel:
    """A transformer that begins with the weights of one of Wan's kind, as Helios-Base did with those of Wan2.1.

    Each patch of the history begins as the mean of the patches of the chunk that it covers.

    Args:
        weights: state of a transformer of the same size, of SkyReels-V2 or of Wan.
    """
    model = create_transformer()
    state = dict(weights)
    state["norm_out.scale_shift_table"] = state.pop("scale_shift_table")
    kernel = state["patch_embedding.weight"]  # [D, channels, 1, 2, 2]
    for name, factor in (("short", 1), ("mid", 2), ("long", 4)):
        state[f"patch_{name}.weight"] = kernel.repeat(1, 1, factor, factor, factor) / factor**3
        state[f"patch_{name}.bias"] = state["patch_embedding.bias"]
    model.load_state_dict(state)
    return model


def history_of(before: torch.Tensor) -> History:
    """What the pipeline shows the model before a chunk that follows these latents, and where it places it in time.

    Args:
        before: the clean latents of all earlier chunks, `[batch, channels, frames, height, width]`; it may be none.
    """
    batch, channels, frames, height, width = before.shape
    empty = before.new_zeros(batch, channels, LONG + MID + SHORT, height, width)
    first = before[:, :, :1] if frames else empty[:, :, :1]
    long, mid, short = torch.cat([empty, before], dim=2)[:, :, -empty.shape[2] :].split((LONG, MID, SHORT), dim=2)
    places = torch.arange(1 + LONG + MID + SHORT + CHUNK, device=before.device)[None]
    first_place, long_places, mid_places, last, now = places.split((1, LONG, MID, SHORT, CHUNK), dim=1)
    return History(
        short=torch.cat([first, short], dim=2),
        mid=mid,
        long=long,
        short_frames=torch.cat([first_place, last], dim=1),
        mid_frames=mid_places,
        long_frames=long_places,
        chunk_frames=now,
    )


def train_transformer(
    config: TrainConfig,
    vae: AutoencoderKLWan,
    encode: CaptionEncoder,
    *,
    clips: int,
    initial: HeliosTransformer3DModel | None = None,
) -> HeliosTransformer3DModel:
    """Train on chunks of clips, the first, second and third in turn.

    The latents in `config.folder.parent / "latents"` are used if they exist. So a continued run with another seed sees
    the same clips with other noise and in another order.

    Args:
        initial: a model to train further.
    """
    data = config.folder.parent / "latents"
    encoder = wan_clip_encoder(vae.to(config.device), seed=config.seed, device=config.device, chunk=CHUNK, apart=True)
    check = encoder.load(data / "check.pt", clips=16, chunks=CHUNKS, held_out=True)
    clips_of = encoder.load(data / "clips.pt", clips=clips, chunks=CHUNKS, held_out=False)
    torch.manual_seed(config.seed)
    model = (initial or create_transformer()).to(config.device)
    patches = ("patch_embedding", "patch_short", "patch_mid", "patch_long")
    tables = [f"blocks.{i}.scale_shift_table" for i in range(len(model.blocks))]
    return train(  # pyright: ignore[reportReturnType]
        model,
        config,
        loss=lambda step: _step_loss(model, step, clips_of, encode, config),
        validate=lambda averaged: _validate(averaged, check, encode, config),  # pyright: ignore
        vectors=(*patches, "proj_out", "condition_embedder", "norm_out", *tables),
    )


def _step_loss(
    model: HeliosTransformer3DModel, step: int, data: LatentSet, encode: CaptionEncoder, config: TrainConfig
) -> Losses:
    rng = np.random.default_rng((config.seed, 0, step))
    rows, chunk = rng.integers(0, len(data), size=BATCH), step % CHUNKS
    captions = [data.captions[i] if rng.uniform() > CAPTION_DROPOUT else "" for i in rows]
    sigma = rng.uniform(size=BATCH)
    sigma = torch.from_numpy(FLOW_SHIFT * sigma / (1 + (FLOW_SHIFT - 1) * sigma))
    loss = velocity_loss(model, data, rows, chunk, captions, sigma, rng, encode, config.device)
    return {"loss": loss, f"chunk_{chunk + 1}": loss.detach()}


def velocity_loss(
    model: HeliosTransformer3DModel,
    data: LatentSet,
    rows: np.ndarray,
    chunk: int,
    captions: list[str],
    sigma: torch.Tensor,
    rng: np.random.Generator,
    encode: Callable[[str], torch.Tensor],
    device: str,
) -> torch.Tensor:
    """Weighted squared error of the velocity (noise - clean) of one chunk of each clip, at noise level `sigma`."""
    span = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    clips = data.latents[rows, :, : span.stop].float().to(device)
    noise = torch.from_numpy(rng.standard_normal(clips.shape, dtype=np.float32)).to(device)
    level = (rng.uniform(size=len(rows)) < NOISY_HISTORY) * rng.uniform(0, LARGEST_HISTORY_NOISE, len(rows))
    levels = torch.from_numpy(level).float().to(device).view(-1, 1, 1, 1, 1)
    history = history_of(((1 - levels) * clips + levels * noise)[:, :, : span.start])
    clean, noise = clips[:, :, span], noise[:, :, span]
    sigmas = sigma.float().to(device).view(-1, 1, 1, 1, 1)
    text, bias = pad_captions([encode(c) for c in captions], torch.from_numpy(rng.choice(PADDED_LENGTHS, len(rows))))
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        velocity = training_forward(
            model,
            (1 - sigmas) * clean + sigmas * noise,
            1000 * sigma.float().to(device),
            history,
            text.to(device),
            bias.to(device),
        )
    return weighted_error(velocity, noise - clean, data.movers[rows, span].to(device), torch.ones_like(sigmas))


@torch.inference_mode()
def _validate(
    model: HeliosTransformer3DModel, check: LatentSet, encode: CaptionEncoder, config: TrainConfig
) -> dict[str, float]:
    """The loss on captions that are never trained on: of every chunk, and with one word exchanged."""
    rows = np.arange(len(check))
    sigma = torch.linspace(0.5, 0.98, len(check), dtype=torch.float64)

    def loss(chunk: int, words: tuple[str, ...]) -> float:
        captions = [exchange_words(caption, words) for caption in check.captions]
        rng = np.random.default_rng(7)
        return velocity_loss(model, check, rows, chunk, captions, sigma, rng, encode, config.device).item()

    first = {name: loss(0, words) for name, words in EXCHANGES.items()}
    return {**first, "last_chunk": loss(CHUNKS - 1, ())}
