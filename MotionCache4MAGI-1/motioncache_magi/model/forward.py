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
        due: indices of the tokens to compute, int64 on the host; None computes all.
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

    def indices(self) -> torch.Tensor:
        """List the indices of the due tokens, int64 on the host."""
        return torch.arange(len(self.tokens)) if self.due is None else self.due


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
    within = [chunk.indices() for chunk in inputs]
    rows = [
        chunk.tokens if chunk.due is None else chunk.tokens.index_select(0, due.to(chunk.tokens.device))
        for chunk, due in zip(inputs, within, strict=True)
    ]
    tokens = torch.cat(rows)
    if not len(tokens):
        return [tokens.new_zeros(0, 4 * model.latent_channels, dtype=torch.float32) for _ in inputs]
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
