"""A training forward of `HeliosTransformer3DModel` that equals the stock one and costs much less.

One key with a bias stands for all the zero rows that pad a prompt, and attention is made of plain products: on a CPU
their backward is much faster than that of a fused kernel.
"""

from functools import partial

import torch
from diffusers import HeliosTransformer3DModel
from diffusers.models.transformers.transformer_helios import HeliosAttention

from motioncache.grid import TokenGrid
from motioncache_helios.blocks import Rows, Text, run_block
from motioncache_helios.embedding import History, embed_chunk, embed_history, embed_time, head, rotary_tables

PADDED_TEXT_LENGTH = 20
"""Tokens that shorter captions are padded to, so that every batch has one shape."""


def attend(
    attn: HeliosAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention by plain products, `[B, n, H, d]` to `[B, n, D]`.

    Args:
        bias: added to the scores, `[B, 1, 1, keys]`.
    """
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):  # autocast would widen the scores, the largest tensors
        query = (query * query.shape[-1] ** -0.5).to(value.dtype)
        scores = query @ key.to(value.dtype).transpose(-1, -2)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def training_forward(
    model: HeliosTransformer3DModel,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    history: History,
    text: torch.Tensor,
    text_bias: torch.Tensor,
) -> torch.Tensor:
    """The velocity that the model predicts of a chunk.

    Args:
        latents: `[batch, channels, frames, height, width]`.
        timestep: `[batch]`.
        text: captions, and behind each of them one zero row that stands for all the padding.
        text_bias: of their keys, `[batch, text_length]`.
    """
    _, _, frames, height, width = latents.shape
    patch_frames, patch_height, patch_width = model.config.patch_size
    grid = TokenGrid(
        frames=frames // patch_frames,
        height=height // patch_height,
        width=width // patch_width,
        chunk_frames=frames // patch_frames,
    )
    before = embed_history(model, history)
    temb, modulation = embed_time(model, timestep, text)
    rows = Rows(
        history=before.shape[1],
        rotary=rotary_tables(model, history, grid, latents.device),
        modulation=modulation,
        text=Text(
            embedded=model.condition_embedder.text_embedder(text),
            attend=partial(attend, bias=text_bias[:, None, None]),
        ),
        attend=attend,
    )
    hidden = torch.cat([before, embed_chunk(model, latents)], dim=1)
    for layer, block in enumerate(model.blocks):
        hidden = run_block(block, hidden, rows, layer)
    return head(model, hidden[:, rows.history :], temb, grid)
