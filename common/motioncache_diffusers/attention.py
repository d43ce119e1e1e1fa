"""What the attention of diffusers' Wan-like transformers projects from a prompt."""

from typing import Any

import torch


def project_text(attn: Any, embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values `[B, text_length, H, d]` of an embedded prompt `[B, text_length, D]`."""
    if getattr(attn, "fused_projections", False):
        key, value = attn.to_kv(embedded).chunk(2, dim=-1)
    else:
        key, value = attn.to_k(embedded), attn.to_v(embedded)
    return attn.norm_k(key).unflatten(2, (attn.heads, -1)), value.unflatten(2, (attn.heads, -1))
