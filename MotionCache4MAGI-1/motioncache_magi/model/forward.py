"""Runs chunks through the DiT, packed side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Keys, Pack, Segment, Text, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkInput:
    """One chunk in one branch of a pass.

    Attributes:
        tokens: embedded tokens of the chunk, `[tokens_per_chunk, D]`.
        first_frame: latent frame of the video at which the chunk begins, for the rotary embedding.
        t: time of the chunk, 0 for noise and 1 for clean.
        dropped: whether the condition tells the model that the caption is dropped.
        text: the text that the chunk attends to.
        cache_start: first row of the chunk in the KV cache; None for a chunk that is not kept.
        attended: rows of the KV cache that the chunk may attend to; None for itself alone, computed whole.
        due: indices of the tokens to compute, int64 on the device; None computes all.
        watch: is called with queries and keys, see `Segment`.
    """

    tokens: torch.Tensor
    first_frame: int
    t: float
    dropped: bool
    text: Text
    cache_start: int | None
    attended: slice | None
    due: torch.Tensor | None = None
    watch: Watch | None = None

    def select(self, x: torch.Tensor) -> torch.Tensor:
        """Select the due rows of what belongs to the tokens of a chunk."""
        return x if self.due is None else x.index_select(0, self.due)


def run_chunks(
    model: VideoDiT,
    inputs: Sequence[ChunkInput],
    cache: Keys,
    grid: tuple[int, int, int],
    step_size: float | None = None,
    most_rows: int | None = None,
) -> list[torch.Tensor]:
    """Compute the velocities of the due tokens of every chunk as patches, float32 `[due, 4 * latent_channels]`.

    Args:
        inputs: a chunk comes after those that it attends to, and chunks that are not kept come last.
        cache: holds the keys and values of the chunks that are attended to; those of `inputs` are written into it.
        grid: latent frames of a chunk, and rows and columns of its tokens.
        step_size: see `VideoDiT.condition`.
        most_rows: tokens that a layer computes at a time, except that a chunk is not divided; None computes all.
    """
    lengths = [len(one.tokens) if one.due is None else len(one.due) for one in inputs]
    if not sum(lengths):
        return [one.tokens.new_zeros(0, 4 * model.latent_channels, dtype=torch.float32) for one in inputs]
    parts = _parts(lengths, most_rows)
    packs = [_pack(model, inputs[part], lengths[part], cache, grid, step_size) for part in parts]
    hidden = model.run_layers((_rows(inputs[part]) for part in parts), packs)
    by_part = [model.head(rows).split(lengths[part]) for rows, part in zip(hidden, parts, strict=True)]
    return [velocity for velocities in by_part for velocity in velocities]


def _parts(lengths: Sequence[int], most: int | None) -> list[slice]:
    """Neighbours that have at most so many rows together."""
    starts, rows = [0], 0
    for place, length in enumerate(lengths):
        if most is not None and rows and length and rows + length > most:
            starts.append(place)
            rows = 0
        rows += length
    return [slice(*part) for part in pairwise([*starts, len(lengths)])]


def _rows(inputs: Sequence[ChunkInput]) -> torch.Tensor:
    """The tokens to compute, side by side."""
    rows = [chunk.select(chunk.tokens) for chunk in inputs]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _pack(
    model: VideoDiT,
    inputs: Sequence[ChunkInput],
    lengths: Sequence[int],
    cache: Keys,
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
    kept = [
        chunk.select(within[: len(chunk.tokens)]) + chunk.cache_start
        for chunk in inputs
        if chunk.cache_start is not None
    ]
    angles = torch.cat([chunk.select(model.rope(chunk.first_frame, *grid)) for chunk in inputs])[:, None]
    return Pack(
        segments=segments,
        cache=cache,
        cache_rows=torch.cat(kept) if kept else within[:0],
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
