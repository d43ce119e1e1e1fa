"""The transformer layer of MAGI-1, with the module names of the official checkpoints."""

import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, linear, silu

from motioncache.plain import is_plain_linear
from motioncache_magi.model.config import ModelConfig
from motioncache_magi.model.packed import Pack, Text
from motioncache_magi.model.rope import rotate

JOIN_GROUPS = 8
"""Self- and cross-attention are interleaved in this many groups of channels: the training ran on eight GPUs."""


class LayerNorm1p(nn.LayerNorm):
    """A LayerNorm that stores its weight minus one and computes in the dtype of its weight."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return layer_norm(input.to(self.weight.dtype), self.normalized_shape, self.weight + 1, self.bias, self.eps)


class QueryKeyValue(nn.Module):
    """Projects one normalised input to the queries of both attentions and to the keys and values of self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, heads, groups = config.hidden_size, config.num_attention_heads, config.num_query_groups
        self.layer_norm = nn.LayerNorm(size, config.layernorm_epsilon)
        self.q = nn.Linear(size, heads * config.kv_channels, bias=False)
        self.qx = nn.Linear(size, heads * config.kv_channels, bias=False)
        self.k = nn.Linear(size, groups * config.kv_channels, bias=False)
        self.v = nn.Linear(size, groups * config.kv_channels, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.layer_norm(x)
        return self.q(x), self.qx(x), self.k(x), self.v(x)


class Attention(nn.Module):
    """Self-attention to the past and cross-attention to the text, which run in parallel; one projection joins them."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        head, eps = config.kv_channels, config.layernorm_epsilon
        width = config.num_attention_heads * head
        self._layer = layer
        self._head = head
        self.linear_qkv = QueryKeyValue(config)
        self.linear_kv_xattn = nn.Linear(config.hidden_size, 2 * config.num_query_groups * head, bias=False)
        self.linear_proj = nn.Linear(2 * width, config.hidden_size, bias=False)
        self.q_layernorm = LayerNorm1p(head, eps)
        self.q_layernorm_xattn = LayerNorm1p(head, eps)
        self.k_layernorm = LayerNorm1p(head, eps)
        self.k_layernorm_xattn = LayerNorm1p(head, eps)

    def project(
        self, x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute queries for the past and for the text, `[n, H, d]`, and keys and values, `[n, G, d]`."""
        query, query_text, key, value = (y.unflatten(1, (-1, self._head)) for y in self.linear_qkv(x))
        query = rotate(self.q_layernorm(query), rotary).to(x.dtype)
        key = rotate(self.k_layernorm(key), rotary).to(x.dtype)
        return query, self.q_layernorm_xattn(query_text), key, value

    def attend(
        self, query: torch.Tensor, query_text: torch.Tensor, key: torch.Tensor, value: torch.Tensor, pack: Pack
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend to the past and to the text, `[n, H * d]` each."""
        past = pack.attend_past(self._layer, query, key, value)
        by_segment = query_text.split([segment.rows for segment in pack.segments])
        text = [self._attend_text(x, segment.text, pack) for x, segment in zip(by_segment, pack.segments, strict=True)]
        return past, torch.cat(text)

    def join(self, past: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Interleave the results of both attentions by groups of channels and project them, in float32."""
        groups = [attended.unflatten(1, (JOIN_GROUPS, -1)) for attended in (past, text)]
        joined = torch.cat(groups, dim=2).flatten(1)
        if is_plain_linear(self.linear_proj):
            joined = joined.float()
            return linear(joined, self.linear_proj.weight.float())
        return self.linear_proj(joined).float()  # only a quantised or adapted layer itself knows its weights

    def _attend_text(self, query: torch.Tensor, text: Text, pack: Pack) -> torch.Tensor:
        if not len(text.embedded):
            return torch.zeros_like(query).flatten(1)
        if self._layer not in text.keys_values:
            text.keys_values[self._layer] = self._text_keys_values(text.embedded)
        return pack.attend(query, *text.keys_values[self._layer])

    def _text_keys_values(self, embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a text, `[1, text_length, G, d]` each, which hold on to nothing else."""
        both = self.linear_kv_xattn(embedded).unflatten(1, (-1, 2 * self._head))
        key, value = both.chunk(2, dim=-1)
        key, value = torch.stack([self.k_layernorm_xattn(key), value])[:, None]
        return key, value


class MLP(nn.Module):
    """A normalisation and a feed-forward network, with GELU in the 4.5B models and SwiGLU in the 24B models."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._gated = config.gated_linear_unit
        inner = config.ffn_hidden_size
        self.layer_norm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.linear_fc1 = nn.Linear(config.hidden_size, 2 * inner if self._gated else inner, bias=False)
        self.linear_fc2 = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear_fc2(self._activate(self.linear_fc1(self.layer_norm(x))))

    def _activate(self, x: torch.Tensor) -> torch.Tensor:
        if not self._gated:
            return gelu(x)
        gate, x = x.chunk(2, dim=-1)
        return silu(gate) * x


class Gates(nn.Module):
    """Computes two gates per channel from the condition; there is neither scale nor shift."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(config.condition_size, 2 * config.hidden_size))

    def forward(self, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gates of attention and of the feed-forward, `[segments, D]` each, from `[segments, Dc]`."""
        attention, mlp = self.proj(silu(condition)).float().tanh().to(condition.dtype).chunk(2, dim=-1)
        return attention, mlp


class Layer(nn.Module):
    """Adds a gated branch of attention, then one of feed-forward; each is normalised first, and sums are float32."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.ada_modulate_layer = Gates(config)
        self.self_attention = Attention(config, layer)
        self.self_attn_post_norm = LayerNorm1p(config.hidden_size, config.layernorm_epsilon)
        self.mlp = MLP(config)
        self.mlp_post_norm = LayerNorm1p(config.hidden_size, config.layernorm_epsilon)

    def forward(self, x: torch.Tensor, pack: Pack) -> torch.Tensor:
        """Run the layer over packed rows, `[n, D]`: attention runs eagerly between two functions of tensors alone."""
        attention = self.self_attention
        past, text = attention.attend(*attention.project(x, pack.rotary), pack)
        return self.finish(x, past, text, pack.condition, pack.segment_of_row)

    def finish(
        self, x: torch.Tensor, past: torch.Tensor, text: torch.Tensor, condition: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Run what follows attention; `rows` are the rows of `condition` that packed rows belong to."""
        gate, mlp_gate = (gates[rows] for gates in self.ada_modulate_layer(condition))
        x = _add(x, self.self_attn_post_norm(self.self_attention.join(past, text) * gate))
        del gate
        return _add(x, self.mlp_post_norm(self.mlp(x) * mlp_gate))


def _add(x: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
    return (x.float() + branch.float()).to(x.dtype)
