"""A golden model, and samplers around it."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.parity.golden import Golden
from motioncache_magi.sampling.sampler import Settings
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.text.chunks import NULL_TEXT_LENGTH


def build_dit(weights: Golden, config: MagiConfig) -> VideoDiT:
    """The DiT of a weights file, which holds bfloat16 values, in the dtypes that `config` computes in."""
    model = VideoDiT(config.model)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.tensors.items()})
    return model.set_dtypes().eval()


@torch.inference_mode()
def embed_words(model: VideoDiT, words: torch.Tensor, mask: torch.Tensor) -> Text:
    """Text from embeddings `[words, channels]` and their mask `[words]`."""
    return Text(model.embed_text(words[mask.bool()]))


def null_text(model: VideoDiT) -> Text:
    null = model.y_embedder.null_caption_embedding
    return embed_words(model, null, torch.arange(len(null)) < NULL_TEXT_LENGTH)


def settings(config: MagiConfig, *, chunks: int, prefix_frames: int) -> Settings:
    """The settings of a whole video."""
    return Settings.of(config, WindowSchedule.of(config, chunks=chunks, prefix_frames=prefix_frames))


def fixed_settings(config: MagiConfig, times: Sequence[float], chunk_frames: int) -> Settings:
    """For a single step of length 1 at given times, one per chunk: its latents move by their velocity.

    Chunk i is at denoise step 2 i.
    """
    times_and_ends = torch.tensor([end for t in times for end in (t, t + 1)])
    base = settings(config, chunks=len(times), prefix_frames=0)
    return replace(base, times=times_and_ends, chunk_frames=chunk_frames)
