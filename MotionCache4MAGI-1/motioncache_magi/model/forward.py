"""Runs chunks through the DiT in one packed pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from motioncache.kv_cache import KVCache
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Pack, Segment, Text, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkInput:
    """One chunk in one branch of a pass.

    Attributes:
        tokens: embedded tokens of the chunk, `[tokens_per_chunk, D]`.
        first_frame: latent frame of the video at which the chunk begins, for the rotary embedding.
        t: time of the chunk, 0 for noise and 1 for clean.
        dropped: whether the condition tells the model that the caption is dropped.
        text: the text that the chunk attends to.
        cache_start: first row of the chunk in the KV cache.
        attended: rows of the KV cache that the chunk may attend to.
        due: indices of the tokens to compute, int64 on the device; None computes all.
        watch: is called with queries and keys, see `Segment`.
    """

    tokens: torch.Tensor
    first_frame: int
    t: float
    dropped: bool
    text: Text
    cache_start: int
    attended: slice
    due: torch.Tensor | None = None
    watch: Watch | None = None

    def select(self, x: torch.Tensor) -> torch.Tensor:
        """Select the due rows of what belongs to the tokens of a chunk."""
        return x if self.due is None else x.index_select(0, self.due)


def run_chunks(
    model: VideoDiT,
    inputs: Sequence[ChunkInput],
    cache: KVCache,
    grid: tuple[int, int, int],
    step_size: float | None = None,
) -> list[torch.Tensor]:
    """Compute the velocities of the due tokens of every chunk as patches, float32 `[due, 4 * latent_channels]`.

    Args:
        cache: holds the keys and values of the chunks that are attended to; those of `inputs` are written into it.
        grid: latent frames of a chunk, and rows and columns of its tokens.
        step_size: see `VideoDiT.condition`.
    """
    rows = [chunk.select(chunk.tokens) for chunk in inputs]
    lengths = [len(due) for due in rows]
    tokens = torch.cat(rows)
    if not len(tokens):
        return [tokens.new_zeros(0, 4 * model.latent_channels, dtype=torch.float32) for _ in inputs]
    pack = _pack(model, inputs, lengths, cache, grid, step_size)
    velocities = model.head(model.run_layers(tokens, pack))
    return list(velocities.split(lengths))


def _pack(
    model: VideoDiT,
    inputs: Sequence[ChunkInput],
    lengths: Sequence[int],
    cache: KVCache,
    grid: tuple[int, int, int],
    step_size: float | None,
) -> Pack:
    device = inputs[0].tokens.device
    segments = [
        Segment(rows=rows, attended=chunk.attended, text=chunk.text, watch=chunk.watch)
        for chunk, rows in zip(inputs, lengths, strict=True)
        if rows
    ]
    within = torch.arange(max(len(chunk.tokens) for chunk in inputs), device=device)
    angles = torch.cat([chunk.select(model.rope(chunk.first_frame, *grid)) for chunk in inputs])[:, None]
    return Pack(
        segments=segments,
        cache=cache,
        cache_rows=torch.cat([chunk.select(within[: len(chunk.tokens)]) + chunk.cache_start for chunk in inputs]),
        rotary=(angles.cos(), angles.sin()),
        condition=model.condition(
            _filled([chunk.t for chunk in inputs], [1] * len(inputs), device),
            _filled([chunk.dropped for chunk in inputs], [1] * len(inputs), device),
            step_size,
        ),
        segment_of_row=_filled(range(len(inputs)), lengths, device),
    )


def _filled(values: Sequence[float], lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """Repeat every value so many times. Kernels fill it: a copy from the host would wait for the device."""
    return torch.cat([torch.full((n,), value, device=device) for value, n in zip(values, lengths, strict=True)])
