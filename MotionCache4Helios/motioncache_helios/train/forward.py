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
from motioncache_train.attention import attend


def attend_plainly(
    attn: HeliosAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """See `motioncache_helios.blocks.Attend`, and `motioncache_train.attention.attend`."""
    return attend(query, key, value, bias).flatten(2)


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
            attend=partial(attend_plainly, bias=text_bias[:, None, None]),
        ),
        attend=attend_plainly,
    )
    hidden = torch.cat([before, embed_chunk(model, latents)], dim=1)
    for layer, block in enumerate(model.blocks):
        hidden = run_block(block, hidden, rows, layer)
    return head(model, hidden[:, rows.history :], temb, grid)
