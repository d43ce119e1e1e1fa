"""The forward pass of the DiT in training: the sampler's packed pass over a batch of clips, with gradients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from motioncache_magi.model.dit import VideoDiT, from_patches
from motioncache_magi.model.packed import Pack, Segment, Text
from motioncache_magi.sampling.step import KeyRange


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainChunk:
    """One chunk of a clip.

    Attributes:
        latents: noisy latents, `[channels, chunk_frames, height, width]`.
        position: index of the chunk in the video, for the rotary embedding.
        t: time of the chunk, 0 for noise and 1 for clean.
        dropped: whether the condition tells the model that the caption is dropped.
        text: the text that the chunk attends to.
        seen: chunks that this one attends to, as indices in the list of the clip's chunks.
        counts: whether the velocity counts in the loss; that of a clean chunk, which others attend to, does not.
    """

    latents: torch.Tensor
    position: int
    t: float
    dropped: bool
    text: Text
    seen: KeyRange
    counts: bool


class FreshKeys:
    """Keys and values of a single pass, through which gradients flow.

    They are stored chunk by chunk, since the gradient of a slice is as large as the tensor that it is taken from.
    """

    def __init__(self, per_chunk: int) -> None:
        self._per_chunk = per_chunk
        self._chunks: dict[int, tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]] = {}

    def write(self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the keys and values of all rows, which a layer must write once and in order."""
        self._chunks[layer] = (key.split(self._per_chunk, 1), value.split(self._per_chunk, 1))

    def read(self, layer: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Read rows that must be those of whole chunks."""
        chunks = slice(rows.start // self._per_chunk, rows.stop // self._per_chunk)
        keys, values = self._chunks[layer]
        return torch.cat(list(keys[chunks]), 1), torch.cat(list(values[chunks]), 1)


def attend_by_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Compute scaled dot-product attention; on a CPU its backward takes half the time of the fused one."""
    return ((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)).softmax(-1) @ value


def attend_segment(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend as `motioncache_magi.model.attention.attend` does, by plain matrix products."""
    key, value = (x[0].transpose(0, 1).to(query.dtype)[:, None] for x in (key, value))  # [G, 1, m, d]
    query = query.unflatten(1, (len(key), -1)).permute(1, 2, 0, 3)  # [G, H / G, n, d]
    return attend_by_products(query, key, value).permute(2, 0, 1, 3).flatten(1)


def training_forward(
    model: VideoDiT, clips: Sequence[Sequence[TrainChunk]], step_size: float | None = None
) -> list[torch.Tensor]:
    """Compute the velocities `[channels, chunk_frames, height, width]` of all chunks that count, clip after clip.

    Args:
        step_size: see `VideoDiT.condition`.
    """
    chunks = [chunk for clip in clips for chunk in clip]
    _, frames, height, width = chunks[0].latents.shape
    grid = (frames, height // 2, width // 2)
    per_chunk = frames * height * width // 4
    segments, first = [], 0
    for clip in clips:
        for chunk in clip:
            seen = slice((first + chunk.seen[0]) * per_chunk, (first + chunk.seen[1]) * per_chunk)
            segments.append(Segment(rows=per_chunk, attended=seen, text=chunk.text))
        first += len(clip)
    device = chunks[0].latents.device
    angles = torch.cat([model.rope(chunk.position * frames, *grid) for chunk in chunks])[:, None]
    pack = Pack(
        segments=segments,
        cache=FreshKeys(per_chunk),
        cache_rows=torch.arange(len(chunks) * per_chunk),
        rotary=(angles.cos(), angles.sin()),
        condition=model.condition(
            torch.tensor([chunk.t for chunk in chunks], device=device),
            torch.tensor([chunk.dropped for chunk in chunks], device=device),
            step_size,
        ),
        segment_of_row=torch.arange(len(chunks), device=device).repeat_interleave(per_chunk),
        attend=attend_segment,
    )
    tokens = torch.cat([model.embed(chunk.latents) for chunk in chunks])
    velocities = model.head(*model.run_layers([tokens], [pack])).split(per_chunk)
    return [from_patches(velocity, *grid) for chunk, velocity in zip(chunks, velocities, strict=True) if chunk.counts]
