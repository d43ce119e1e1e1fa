"""The DiT of MAGI-1 ("VideoDiT"): embedding, layers, and the head that predicts the velocity.

Every tensor has the name and the shape that it has in the official checkpoints.
"""

import math

import torch
from torch import nn

from motioncache_magi.model.config import ModelConfig
from motioncache_magi.model.layers import Layer, LayerNorm1p
from motioncache_magi.model.packed import Pack
from motioncache_magi.model.rope import LearnableRope

_FREQUENCIES = 256
_NOT_DROPPED, _DROPPED = -2, -1
"""Rows of the null caption whose projection stands for "with a caption" and "caption dropped"."""

_IN_FLOAT32 = ("x_embedder", "y_embedder", "t_embedder", "final_linear", "rope")
_NORMS_IN_FLOAT32 = ("q_layernorm", "k_layernorm", "self_attn_post_norm", "mlp_post_norm", "final_layernorm")


class TimeEmbedder(nn.Module):
    """Sinusoids of a time in [0, 1], then two linear layers, in float32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.condition_size
        self.mlp = nn.Sequential(nn.Linear(_FREQUENCIES, size), nn.SiLU(), nn.Linear(size, size))
        self._rounded = config.dtype

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Float32 `[n]` to `[n, Dc]`. The sinusoids are rounded to the model's dtype, as the model was trained."""
        half = _FREQUENCIES // 2
        index = torch.arange(half, dtype=torch.float32, device=t.device)
        # In this order of the products: the angles go up to 1000, and another order moves their cosines.
        angle = t.float()[:, None] * torch.exp(-math.log(10000) * index / half) * 1000
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1).to(self._rounded).float())


class CaptionEmbedder(nn.Module):
    """Projections of the text for cross-attention, and of two null rows for the condition."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.caption_channels
        self.null_caption_embedding = nn.Parameter(torch.zeros(config.caption_max_length, channels))
        self.y_proj_xattn = nn.Sequential(nn.Linear(channels, config.hidden_size), nn.SiLU())
        self.y_proj_adaln = nn.Sequential(nn.Linear(channels, config.condition_size))

    def forward(self, caption: torch.Tensor) -> torch.Tensor:
        """Words `[words, caption_channels]` to `[words, D]`."""
        return self.y_proj_xattn(caption.float())

    def dropped(self, flags: torch.Tensor) -> torch.Tensor:
        """Bool `[n]`, whether the caption is dropped, to `[n, Dc]`."""
        rows = self.y_proj_adaln(self.null_caption_embedding[[_NOT_DROPPED, _DROPPED]].float())
        return rows[flags.long()]


class FinalLinear(nn.Module):
    """The head: channels of a token to its patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, 4 * config.out_channels, bias=False)


class Blocks(nn.Module):
    """All layers and the last normalisation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_layers))
        self.final_layernorm = LayerNorm1p(config.hidden_size, config.layernorm_epsilon)


class VideoDiT(nn.Module):
    """Predicts the velocity (clean - noise) of packed chunks; batch size 1 throughout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = nn.Conv3d(config.in_channels, config.hidden_size, (1, 2, 2), (1, 2, 2), bias=False)
        self.t_embedder = TimeEmbedder(config)
        self.y_embedder = CaptionEmbedder(config)
        self.rope = LearnableRope(config.kv_channels)
        self.videodit_blocks = Blocks(config)
        self.final_linear = FinalLinear(config)

    def set_dtypes(self) -> "VideoDiT":
        """Cast to the dtypes that the model computes in: embedders, head and most norms stay in float32."""
        for name, parameter in self.named_parameters():
            parameter.data = parameter.data.to(parameter_dtype(name, self.config.dtype))
        return self

    def embed(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `[channels, frames, height, width]` to tokens `[frames * rows * columns, D]` in the model's dtype."""
        x = latents.float() * self.config.x_rescale_factor
        if self.config.half_channel_vae:
            x = torch.cat([x, x])
        return self.x_embedder(x[None])[0].flatten(1).T.to(self.config.dtype)

    def condition(self, t: torch.Tensor, dropped: torch.Tensor, step_size: float | None) -> torch.Tensor:
        """One condition per chunk, `[n, Dc]`, from its time and whether its caption is dropped, both `[n]`.

        Args:
            step_size: what distilled models are told of the length of a step; None for base models.
        """
        embedded = self.t_embedder(t)
        if step_size is not None:
            embedded = embedded + self.t_embedder(torch.tensor([step_size], device=t.device))
        return (embedded + self.y_embedder.dropped(dropped)).to(self.config.dtype)

    def embed_text(self, caption: torch.Tensor) -> torch.Tensor:
        """Words `[words, caption_channels]` to `[words, D]` in the model's dtype."""
        return self.y_embedder(caption).to(self.config.dtype)

    def run_layers(self, tokens: torch.Tensor, pack: Pack) -> torch.Tensor:
        """Packed tokens `[n, D]` to hidden states `[n, D]`."""
        for layer in self.videodit_blocks.layers:
            tokens = layer(tokens, pack)
        return tokens

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states `[n, D]` to velocities as patches, float32 `[n, 4 * latent_channels]`; see `to_patches`."""
        patches = self.final_linear.linear(self.videodit_blocks.final_layernorm(hidden.float()))
        kept = patches.unflatten(1, (4, -1))[..., : self.config.latent_channels]
        return kept.flatten(1) / self.config.x_rescale_factor


def parameter_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype that a parameter is computed in, where the model's is `dtype`."""
    promoted = name.startswith(_IN_FLOAT32) or (
        any(norm in name for norm in _NORMS_IN_FLOAT32) and "_xattn" not in name
    )
    return torch.float32 if promoted else dtype


def to_patches(latents: torch.Tensor) -> torch.Tensor:
    """`[channels, frames, height, width]` to `[tokens, 4 * channels]`, a patch ordered by (row, column, channel)."""
    x = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [C, F, rows, 2, columns, 2]
    return x.permute(1, 2, 4, 3, 5, 0).flatten(3).flatten(0, 2)


def from_patches(patches: torch.Tensor, frames: int, rows: int, columns: int) -> torch.Tensor:
    """The inverse of `to_patches`."""
    x = patches.view(frames, rows, columns, 2, 2, -1)
    return x.permute(5, 0, 1, 3, 2, 4).flatten(4).flatten(2, 3)
