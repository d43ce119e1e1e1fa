"""Attention of packed rows, which diffusers' dispatcher computes."""

from collections.abc import Callable

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Let queries `[n, H, d]` attend to keys and values `[1, m, G, d]`; the result is `[n, H * d]`.

    The attention backend is the one that is set in diffusers.
    """
    out = dispatch_attention_fn(query[None], key, value, enable_gqa=query.shape[1] != key.shape[2])
    return out[0].flatten(1)
