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
        tokens: after the embedding, `[tokens_per_chunk, D]`.
        first_frame: latent frame of the video that the chunk begins at, for the rotary embedding.
        t: its time, 0 for noise and 1 for clean.
        dropped: whether its caption counts as dropped.
        text: the words that it attends to.
        cache_start: its first row in the KV cache.
        attended: the rows of the KV cache that it may see.
        due: tokens to compute, int64 on the host; None for all.
        watch: see `Segment`.
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

    def indices(self) -> torch.Tensor:
        """The due tokens, int64 on the host."""
        return torch.arange(len(self.tokens)) if self.due is None else self.due


def run_chunks(
    model: VideoDiT,
    inputs: Sequence[ChunkInput],
    cache: KVCache,
    grid: tuple[int, int, int],
    step_size: float | None = None,
) -> list[torch.Tensor]:
    """Velocities of the due tokens of every chunk as patches, float32 `[due, 4 * latent_channels]`.

    Args:
        grid: latent frames, and rows and columns of tokens, of a chunk.
        step_size: see `VideoDiT.condition`.
    """
    within = [chunk.indices() for chunk in inputs]
    rows = [
        chunk.tokens if chunk.due is None else chunk.tokens.index_select(0, due.to(chunk.tokens.device))
        for chunk, due in zip(inputs, within, strict=True)
    ]
    tokens = torch.cat(rows)
    if not len(tokens):
        return [tokens.new_zeros(0, 4 * model.config.latent_channels, dtype=torch.float32) for _ in inputs]
    pack = _pack(model, inputs, within, cache, grid, step_size)
    velocities = model.head(model.run_layers(tokens, pack))
    return list(velocities.split([len(due) for due in within]))


def _pack(
    model: VideoDiT,
    inputs: Sequence[ChunkInput],
    within: Sequence[torch.Tensor],
    cache: KVCache,
    grid: tuple[int, int, int],
    step_size: float | None,
) -> Pack:
    device = inputs[0].tokens.device
    segments = [
        Segment(rows=len(due), attended=chunk.attended, text=chunk.text, watch=chunk.watch)
        for chunk, due in zip(inputs, within, strict=True)
        if len(due)
    ]
    cache_rows = torch.cat([chunk.cache_start + due for chunk, due in zip(inputs, within, strict=True)])
    angles = torch.cat(
        [
            model.rope(chunk.first_frame, *grid).index_select(0, due.to(device))
            for chunk, due in zip(inputs, within, strict=True)
        ]
    )[:, None]
    lengths = torch.tensor([len(due) for due in within])
    return Pack(
        segments=segments,
        cache=cache,
        cache_rows=cache_rows.to(device, non_blocking=True),
        rotary=(angles.cos(), angles.sin()),
        condition=model.condition(
            torch.tensor([chunk.t for chunk in inputs], device=device),
            torch.tensor([chunk.dropped for chunk in inputs], device=device),
            step_size,
        ),
        segment_of_row=torch.arange(len(inputs)).repeat_interleave(lengths).to(device, non_blocking=True),
    )
