"""What surrounds the blocks: history and chunk become tokens, and tokens become a velocity."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import HeliosTransformer3DModel
from diffusers.models.transformers.transformer_helios import center_down_sample_3d, pad_for_3d_conv

from motioncache.grid import TokenGrid
from motioncache_helios.blocks import Rotary


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The latents before a chunk at three resolutions, and the latent frames that each stands for.

    Attributes:
        short, mid, long: `[B, channels, frames, height, width]`.
        short_frames, mid_frames, long_frames: where they lie in time, int64 `[1, frames]`.
        chunk_frames: where the latent frames of the chunk lie, int64 `[1, frames]`.
    """

    short: torch.Tensor
    mid: torch.Tensor
    long: torch.Tensor
    short_frames: torch.Tensor
    mid_frames: torch.Tensor
    long_frames: torch.Tensor
    chunk_frames: torch.Tensor

    @classmethod
    def of_call(cls, call: Mapping[str, Any]) -> "History":
        """From the arguments of the transformer's forward, by name."""
        return cls(
            short=call["latents_history_short"],
            mid=call["latents_history_mid"],
            long=call["latents_history_long"],
            short_frames=call["indices_latents_history_short"],
            mid_frames=call["indices_latents_history_mid"],
            long_frames=call["indices_latents_history_long"],
            chunk_frames=call["indices_hidden_states"],
        )


def embed_history(transformer: HeliosTransformer3DModel, history: History) -> torch.Tensor:
    """Tokens of the history, the oldest first, `[B, h, D]`."""
    parts = (
        transformer.patch_long(pad_for_3d_conv(history.long, (4, 8, 8))),
        transformer.patch_mid(pad_for_3d_conv(history.mid, (2, 4, 4))),
        transformer.patch_short(history.short),
    )
    return torch.cat([part.flatten(2).transpose(1, 2) for part in parts], dim=1)


def embed_chunk(transformer: HeliosTransformer3DModel, latents: torch.Tensor) -> torch.Tensor:
    """Tokens of a chunk, `[B, tokens, D]`."""
    return transformer.patch_embedding(latents).flatten(2).transpose(1, 2)


def rotary_tables(
    transformer: HeliosTransformer3DModel, history: History, grid: TokenGrid, device: torch.device
) -> Rotary:
    """Tables of all rows: the history, then the whole chunk."""
    tables = [
        _coarser(_table(transformer, history.long_frames, grid, device), 4),
        _coarser(_table(transformer, history.mid_frames, grid, device), 2),
        _table(transformer, history.short_frames, grid, device),
        _table(transformer, history.chunk_frames, grid, device),
    ]
    table = torch.cat([part.flatten(2).transpose(1, 2) for part in tables], dim=1)  # [1, n, 2 d]
    cos, sin = table.unsqueeze(-2).chunk(2, dim=-1)
    return cos[..., 0::2].contiguous(), sin[..., 1::2].contiguous()


def _table(
    transformer: HeliosTransformer3DModel, frames: torch.Tensor, grid: TokenGrid, device: torch.device
) -> torch.Tensor:
    """Cosines and sines, `[1, 2 d, frames, height, width]`."""
    return transformer.rope(frame_indices=frames, height=grid.height, width=grid.width, device=device)


def _coarser(table: torch.Tensor, factor: int) -> torch.Tensor:
    """Means over cubes of so many tokens a side."""
    size = (factor, factor, factor)
    return center_down_sample_3d(pad_for_3d_conv(table, size), size)


def embed_time(
    transformer: HeliosTransformer3DModel, timestep: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """The time embedding of the chunk `[B, D]`, and the modulation of its history and of itself, `[1 or B, 6, D]`.

    Args:
        timestep: `[B]`; the history has timestep 0 where the model was trained so.
        like: a tensor of the dtype of the prompt embeddings.
    """
    embed = transformer.condition_embedder
    temb, modulation, _ = embed(timestep, like, is_return_encoder_hidden_states=False)
    now = modulation.unflatten(-1, (6, -1))
    if not transformer.zero_history_timestep:
        return temb, (now, now)
    zero = torch.zeros(1, dtype=timestep.dtype, device=timestep.device)
    _, clean, _ = embed(zero, like, is_return_encoder_hidden_states=False)
    return temb, (clean.unflatten(-1, (6, -1)), now)


def head(
    transformer: HeliosTransformer3DModel, hidden: torch.Tensor, temb: torch.Tensor, grid: TokenGrid
) -> torch.Tensor:
    """Output norm, projection, unpatching: `[B, tokens, D]` and `[B, D]` to `[B, channels, frames, height, width]`."""
    patches = transformer.proj_out(transformer.norm_out(hidden, temb[:, None], hidden.shape[1]))
    patch_frames, patch_height, patch_width = transformer.config.patch_size
    patches = patches.unflatten(2, (patch_frames, patch_height, patch_width, -1))
    patches = patches.unflatten(1, (grid.frames, grid.height, grid.width))  # [B, f, rows, columns, p_f, p_h, p_w, C]
    return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
