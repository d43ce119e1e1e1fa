"""A training forward of `SkyReelsV2Transformer3DModel` that equals the stock one and costs much less.

Chunks are folded into the batch, so that each has its own timestep without a modulation per token. Self-attention
unfolds them, and is block-causal without a mask. One key with a bias stands for all the zero rows that pad a prompt.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import SkyReelsV2Transformer3DModel
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2Attention

from motioncache_skyreels.packed import rotate
from motioncache_train.attention import attend

Rotary = tuple[torch.Tensor, torch.Tensor]


class BlockCausalSelfAttention:
    """Self-attention over chunks folded into the batch: chunk k attends to chunks 0..k."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks

    def __call__(
        self,
        attn: SkyReelsV2Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        rotary_emb: Rotary,
    ) -> torch.Tensor:
        batch, length = hidden_states.shape[0] // self.chunks, hidden_states.shape[1]
        window = (batch, self.chunks * length, attn.heads, -1)
        query = rotate(attn.norm_q(attn.to_q(hidden_states)).reshape(window), rotary_emb)
        key = rotate(attn.norm_k(attn.to_k(hidden_states)).reshape(window), rotary_emb)
        value = attn.to_v(hidden_states).reshape(window)
        ends = range(length, self.chunks * length + 1, length)
        out = torch.cat([attend(query[:, e - length : e], key[:, :e], value[:, :e]) for e in ends], dim=1)
        return attn.to_out[0](out.reshape(batch * self.chunks, length, -1))


class BiasedCrossAttention:
    """Cross-attention to the tokens of a prompt and to one key that stands for all the zero rows behind them.

    Args:
        bias: added to the attention scores, `[batch * chunks, 1, 1, text_length + 1]`.
    """

    def __init__(self, bias: torch.Tensor) -> None:
        self.bias = bias

    def __call__(
        self,
        attn: SkyReelsV2Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        rotary_emb: Rotary | None,
    ) -> torch.Tensor:
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(encoder_hidden_states)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(encoder_hidden_states).unflatten(2, (attn.heads, -1))
        return attn.to_out[0](attend(query, key, value, self.bias).flatten(2))


def training_forward(
    model: SkyReelsV2Transformer3DModel,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    text: torch.Tensor,
    text_bias: torch.Tensor,
) -> torch.Tensor:
    """The velocity that a block-causal forward predicts.

    Args:
        latents: `[batch, channels, frames, height, width]`.
        timestep: int64 `[batch, chunks]`, one for each chunk of `frames / chunks` latent frames.
        text, text_bias: see `pad_captions`.
    """
    batch, _, frames, height, width = latents.shape
    chunks = timestep.shape[1]
    _, patch_height, patch_width = model.config.patch_size
    cos, sin = model.rope(latents)
    rotary = (cos[..., 0::2], sin[..., 1::2])
    hidden = model.patch_embedding(latents).flatten(2).transpose(1, 2)
    hidden = hidden.reshape(batch * chunks, -1, hidden.shape[-1])
    temb, modulation, text, _ = model.condition_embedder(timestep.reshape(-1), text.repeat_interleave(chunks, 0), None)
    bias = text_bias.repeat_interleave(chunks, 0)[:, None, None]
    with _processors(model, BlockCausalSelfAttention(chunks), BiasedCrossAttention(bias)):
        for block in model.blocks:
            hidden = block(hidden, text, modulation.unflatten(-1, (6, -1)), rotary, None)
    shift, scale = (model.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
    hidden = model.proj_out((model.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden))
    rows, columns = height // patch_height, width // patch_width
    patches = hidden.reshape(batch, frames, rows, columns, patch_height, patch_width, -1)
    return patches.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)


@contextmanager
def _processors(
    model: SkyReelsV2Transformer3DModel, own: BlockCausalSelfAttention, cross: BiasedCrossAttention
) -> Iterator[None]:
    """Let all blocks attend with these processors inside the `with` block."""
    before = [(block.attn1.processor, block.attn2.processor) for block in model.blocks]
    for block in model.blocks:
        block.attn1.processor, block.attn2.processor = own, cross
    try:
        yield
    finally:
        for block, (attn1, attn2) in zip(model.blocks, before, strict=True):
            block.attn1.processor, block.attn2.processor = attn1, attn2
