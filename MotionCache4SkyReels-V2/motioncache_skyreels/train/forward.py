"""A training forward of `SkyReelsV2Transformer3DModel` that equals the stock one and costs much less.

Chunks are folded into the batch, so that each carries its own timestep without a modulation per token; self-attention
unfolds them and stays block-causal without a mask; the zero rows that pad a prompt become one key with a bias.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import SkyReelsV2Transformer3DModel
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2Attention

from motioncache_skyreels.packed import rotate

Rotary = tuple[torch.Tensor, torch.Tensor]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention by plain products, `[batch, tokens, heads, dim]`: on a CPU its backward is much faster than SDPA's."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):  # autocast would widen the scores, the largest tensors
        query = (query * query.shape[-1] ** -0.5).to(value.dtype)
        scores = query @ key.to(value.dtype).transpose(-1, -2)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        return (scores.softmax(-1) @ value).transpose(1, 2)


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
        query, key, value = (
            x.unflatten(2, (attn.heads, -1))
            for x in (
                attn.norm_q(attn.to_q(hidden_states)),
                attn.norm_k(attn.to_k(hidden_states)),
                attn.to_v(hidden_states),
            )
        )
        batch, length = hidden_states.shape[0] // self.chunks, hidden_states.shape[1]
        query, key, value = (x.reshape(batch, self.chunks * length, *x.shape[2:]) for x in (query, key, value))
        query, key = rotate(query, rotary_emb), rotate(key, rotary_emb)
        ends = range(length, self.chunks * length + 1, length)
        out = torch.cat([attend(query[:, e - length : e], key[:, :e], value[:, :e]) for e in ends], dim=1)
        return attn.to_out[0](out.reshape(batch * self.chunks, length, -1))


class BiasedCrossAttention:
    """Cross-attention to the words of a prompt and to one key that stands for all the zero rows behind them."""

    def __init__(self, bias: torch.Tensor) -> None:
        self.bias = bias  # [batch * chunks, 1, 1, words + 1]

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


LONGEST_CAPTION = 20
"""Words that captions are padded to, so that every batch has one shape."""


def pad_captions(captions: list[torch.Tensor], padded_length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack captions `[words, dim]` of several lengths.

    Args:
        padded_length: int `[batch]`, the sequence length that the pipeline would pad each prompt to.

    Returns:
        Text `[batch, longest + 1, dim]`, whose last row is the zero row that stands for all the padding, and the bias
        of its keys `[batch, longest + 1]`: 0 for words, -inf behind them, log(count) for the zero row.
    """
    lengths = torch.tensor([len(caption) for caption in captions])
    longest = max(LONGEST_CAPTION, int(lengths.max()))
    text = torch.nn.utils.rnn.pad_sequence(captions, batch_first=True)
    text = torch.nn.functional.pad(text, (0, 0, 0, longest + 1 - text.shape[1]))
    bias = torch.zeros(len(captions), longest + 1)
    bias[:, :longest].masked_fill_(torch.arange(longest) >= lengths[:, None], -torch.inf)
    bias[:, longest] = (padded_length - lengths).log()
    return text, bias


def training_forward(
    model: SkyReelsV2Transformer3DModel,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    text: torch.Tensor,
    text_bias: torch.Tensor,
) -> torch.Tensor:
    """Predicted velocity of a block-causal forward.

    Args:
        latents: `[batch, channels, frames, height, width]`.
        timestep: int64 `[batch, chunks]`, one for each chunk of `frames / chunks` latent frames.
        text, text_bias: see `pad_captions`.
    """
    batch, _, frames, height, width = latents.shape
    chunks = timestep.shape[1]
    _, p_h, p_w = model.config.patch_size
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
    patches = hidden.reshape(batch, frames, height // p_h, width // p_w, p_h, p_w, -1)
    return patches.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)


@contextmanager
def _processors(
    model: SkyReelsV2Transformer3DModel, own: BlockCausalSelfAttention, cross: BiasedCrossAttention
) -> Iterator[None]:
    before = [(block.attn1.processor, block.attn2.processor) for block in model.blocks]
    for block in model.blocks:
        block.attn1.processor, block.attn2.processor = own, cross
    try:
        yield
    finally:
        for block, (attn1, attn2) in zip(model.blocks, before, strict=True):
            block.attn1.processor, block.attn2.processor = attn1, attn2
