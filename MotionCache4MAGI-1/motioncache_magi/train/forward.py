"""A training forward of the DiT: the packed pass of the sampler over a batch of clips, with gradients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from motioncache_magi.dit import VideoDiT, from_patches
from motioncache_magi.pack import Pack, Segment, Text
from motioncache_magi.schedule import KeyRange


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChunk:
    """One chunk of a clip.

    Attributes:
        position: chunk of the video for the rotary embedding.
        seen: chunks of the clip that it sees, counted in the clip's own list.
        counts: whether its velocity counts in the loss; a clean chunk is there to be seen.
    """

    latents: torch.Tensor  # [channels, chunk_frames, height, width], noisy
    position: int
    t: float
    dropped: bool
    text: Text
    seen: KeyRange
    counts: bool


class FreshKeys:
    """Keys and values of a single pass, which gradients go through."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def write(self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Rows come once, and in order."""
        self._held[layer] = (key, value)

    def read(self, layer: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = self._held[layer]
        return key[:, rows], value[:, rows]


def plain_attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """See `motioncache_magi.attention.attend`; by plain products, whose backward is much faster on a CPU."""
    groups, head = key.shape[2], key.shape[3]
    key, value = (x[0].transpose(0, 1).to(query.dtype) for x in (key, value))  # [G, m, d]
    query = (query * head**-0.5).unflatten(1, (groups, -1)).permute(1, 2, 0, 3)  # [G, H / G, n, d]
    weights = (query @ key[:, None].transpose(-1, -2)).softmax(-1)
    return (weights @ value[:, None]).permute(2, 0, 1, 3).flatten(1)


def training_forward(
    model: VideoDiT, clips: Sequence[Sequence[TrainChunk]], step_size: float | None = None
) -> list[torch.Tensor]:
    """Velocities `[channels, chunk_frames, height, width]` of all chunks that count, in order.

    Args:
        step_size: see `VideoDiT.condition`.
    """
    chunks = [chunk for clip in clips for chunk in clip]
    _, frames, height, width = chunks[0].latents.shape
    grid = (frames, height // 2, width // 2)
    per_chunk = frames * height * width // 4
    segments, first = [], 0
    for clip in clips:
        for i, chunk in enumerate(clip):
            start = (first + i) * per_chunk
            seen = slice((first + chunk.seen[0]) * per_chunk, (first + chunk.seen[1]) * per_chunk)
            segments.append(Segment(start=start, stop=start + per_chunk, attended=seen, text=chunk.text))
        first += len(clip)
    device = chunks[0].latents.device
    angles = torch.cat([model.rope(chunk.position * frames, *grid) for chunk in chunks])[:, None]
    pack = Pack(
        segments=segments,
        cache=FreshKeys(),
        cache_rows=torch.empty(0),
        rotary=(angles.cos(), angles.sin()),
        condition=model.condition(
            torch.tensor([chunk.t for chunk in chunks], device=device),
            torch.tensor([chunk.dropped for chunk in chunks], device=device),
            step_size,
        ),
        segment_of_row=torch.arange(len(chunks), device=device).repeat_interleave(per_chunk),
        attend=plain_attend,
    )
    tokens = torch.cat([model.embed(chunk.latents) for chunk in chunks])
    velocities = model.head(model.run_layers(tokens, pack)).split(per_chunk)
    return [from_patches(velocity, *grid) for chunk, velocity in zip(chunks, velocities, strict=True) if chunk.counts]
