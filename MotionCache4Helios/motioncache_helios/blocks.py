"""The transformer's blocks on a chunk of one CFG branch: rows of its history first, then its tokens that are due.

Shapes: B batch, h rows of the history, n rows altogether, D channels, H heads, d head_dim.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import HeliosTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_helios import HeliosAttention, HeliosTransformerBlock

from motioncache.kv_cache import KVCache
from motioncache_diffusers.attention import project_text

Rotary = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine of each row and pair of channels, `[1 or B, n, 1, d / 2]`."""

Attend = Callable[[HeliosAttention, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Attention of `[B, n, H, d]` queries to keys and values, to `[B, n, D]`."""


def attend(attn: HeliosAttention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attend with the backend that the user has set on the model."""
    processor: Any = attn.processor
    return dispatch_attention_fn(query, key, value, backend=processor._attention_backend).flatten(2, 3)


@dataclass(slots=True)
class Text:
    """A prompt, embedded, and its keys and values per layer, projected at their first use.

    Attributes:
        embedded: `[B, text_length, D]`.
    """

    embedded: torch.Tensor
    attend: Attend = attend
    _keys_values: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def keys_values(self, attn: HeliosAttention, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer, `[B, text_length, H, d]`."""
        if layer not in self._keys_values:
            self._keys_values[layer] = project_text(attn, self.embedded)
        return self._keys_values[layer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a block has to know of its rows.

    Attributes:
        history: how many of them, at the beginning, belong to the history.
        modulation: of the history and of the chunk, six rows each, `[1 or B, 6, D]`.
        kept: keys and values of all tokens of the chunk, where some of them may be reused.
        due: the places of the rows among them, int64 `[n - history]`.
    """

    history: int
    rotary: Rotary
    modulation: tuple[torch.Tensor, torch.Tensor]
    text: Text
    kept: KVCache | None = None
    due: torch.Tensor | None = None
    attend: Attend = attend

    def modulate(self, x: torch.Tensor, shifts: list[torch.Tensor], scales: list[torch.Tensor]) -> torch.Tensor:
        """x * (1 + scale) + shift; the history has its own scale and shift, `[1 or B, D]`."""
        parts = x.split([self.history, x.shape[1] - self.history], dim=1)
        return torch.cat(
            [
                part * (1 + scale[:, None]) + shift[:, None]
                for part, scale, shift in zip(parts, scales, shifts, strict=True)
            ],
            dim=1,
        )

    def gate(self, x: torch.Tensor, gates: list[torch.Tensor]) -> torch.Tensor:
        """x * gate; the history has its own gate, `[1 or B, D]`."""
        parts = x.split([self.history, x.shape[1] - self.history], dim=1)
        return torch.cat([part * gate[:, None] for part, gate in zip(parts, gates, strict=True)], dim=1)


def run_blocks(transformer: HeliosTransformer3DModel, hidden: torch.Tensor, rows: Rows) -> torch.Tensor:
    """All blocks, on rows `[B, n, D]`."""
    for layer, block in enumerate(transformer.blocks):
        hidden = block(hidden, rows, layer)
    return hidden


def run_block(block: HeliosTransformerBlock, hidden: torch.Tensor, rows: Rows, layer: int) -> torch.Tensor:
    """A block, in the arithmetic of its own forward."""
    tables = [(block.scale_shift_table + part.float()).unbind(1) for part in rows.modulation]
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (list(pair) for pair in zip(*tables, strict=True))

    normed = rows.modulate(block.norm1(hidden.float()), shift, scale).type_as(hidden)
    attended = _self_attention(block.attn1, normed, rows, layer)
    hidden = (hidden.float() + rows.gate(attended, gate)).type_as(hidden)

    asking = rows.history if block.guidance_cross_attn else 0  # the history does not read the prompt
    normed = block.norm2(hidden[:, asking:].float()).type_as(hidden)
    read = hidden[:, asking:] + _cross_attention(block.attn2, normed, rows.text, layer)
    hidden = torch.cat([hidden[:, :asking], read], dim=1)

    normed = rows.modulate(block.norm3(hidden.float()), ff_shift, ff_scale).type_as(hidden)
    return (hidden.float() + rows.gate(block.ffn(normed).float(), ff_gate)).type_as(hidden)


def _self_attention(attn: HeliosAttention, x: torch.Tensor, rows: Rows, layer: int) -> torch.Tensor:
    """Attend to the history and to all tokens of the chunk; keys and values of those that are not due were kept."""
    if attn.fused_projections:
        query, key, value = attn.to_qkv(x).chunk(3, dim=-1)
    else:
        query, key, value = attn.to_q(x), attn.to_k(x), attn.to_v(x)
    query = rotate(attn.norm_q(query).unflatten(2, (attn.heads, -1)), rows.rotary)
    key = rotate(attn.norm_k(key).unflatten(2, (attn.heads, -1)), rows.rotary)
    value = value.unflatten(2, (attn.heads, -1))
    past, now = _amplified(attn, key[:, : rows.history]), key[:, rows.history :]
    if rows.kept is not None:
        rows.kept.write(layer, rows.due, now, value[:, rows.history :])
        now, kept_value = rows.kept.read(layer, slice(None))
        value = torch.cat([value[:, : rows.history], kept_value], dim=1)
    attended = rows.attend(attn, query, torch.cat([past, now], dim=1), value)
    return _project_out(attn, attended.type_as(query))


def _amplified(attn: HeliosAttention, key: torch.Tensor) -> torch.Tensor:
    """Keys of the history `[B, h, H, d]`, scaled where the model was trained so."""
    if not attn.is_amplify_history or key.shape[1] == 0:
        return key
    scale = 1.0 + torch.sigmoid(attn.history_key_scale) * (attn.max_scale - 1.0)
    return key * (scale.view(1, 1, -1, 1) if attn.history_scale_mode == "per_head" else scale)


def _cross_attention(attn: HeliosAttention, x: torch.Tensor, text: Text, layer: int) -> torch.Tensor:
    query = attn.norm_q(attn.to_q(x)).unflatten(2, (attn.heads, -1))
    return _project_out(attn, text.attend(attn, query, *text.keys_values(attn, layer)).type_as(query))


def rotate(x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Rotary embedding of `[B, n, H, d]`, whose neighbouring channels belong together."""
    cos, sin = rotary
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


def _project_out(attn: HeliosAttention, x: torch.Tensor) -> torch.Tensor:
    return attn.to_out[1](attn.to_out[0](x))
