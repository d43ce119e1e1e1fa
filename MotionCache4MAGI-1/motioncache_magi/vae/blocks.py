"""The transformer block of MAGI-1's video autoencoder."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from motioncache_magi.vae.config import VaeConfig

_QKV_EPSILON = 1e-5


class Block(nn.Module):
    """Attention, which normalises inside and not before, then a feed-forward network with a norm before it."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim)
        self.mlp = FeedForward(config)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[batch, tokens, embed_dim]` -> the same shape."""
        tokens = tokens + self.attn(tokens)
        return tokens + self.mlp(self.norm2(tokens))


class Attention(nn.Module):
    """Every token attends to every token; queries, keys and values are normalised per head."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)
        # Training on a CPU replaces this function by plain matrix products.
        self.attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = F.scaled_dot_product_attention

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[batch, tokens, embed_dim]` -> the same shape."""
        query, key, value = self.normalised_qkv(tokens).permute(2, 0, 3, 1, 4)  # [batch, heads, tokens, head channels]
        attended = self.attend(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def normalised_qkv(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute queries, keys and values, normalised over a head: `[batch, tokens, 3, heads, head channels]`.

        A value z becomes (z - mean) / (std + 1e-5): the epsilon is added to the standard deviation, not to the variance
        as in a layer norm. Mean and deviation are computed in float32.
        """
        qkv = self.qkv(tokens).unflatten(2, (3, self.heads, -1))
        std, mean = torch.std_mean(qkv.float(), dim=-1, correction=0, keepdim=True)
        return ((qkv.float() - mean) / (std + _QKV_EPSILON)).to(qkv.dtype)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        hidden = int(config.embed_dim * config.mlp_ratio)
        self.fc1 = nn.Linear(config.embed_dim, hidden)
        self.fc2 = nn.Linear(hidden, config.embed_dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))
