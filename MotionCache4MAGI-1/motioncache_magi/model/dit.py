"""The DiT of MAGI-1 ("VideoDiT"): embedding, layers, and the head that predicts the velocity.

Every tensor has the name and the shape that it has in the official checkpoints.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from motioncache_magi.model.compiled import Compilable
from motioncache_magi.model.config import ModelConfig
from motioncache_magi.model.dtypes import parameter_dtype as parameter_dtype
from motioncache_magi.model.layers import Layer, LayerNorm1p
from motioncache_magi.model.packed import Pack
from motioncache_magi.model.rope import LearnableRope

_FREQUENCIES = 256
_NOT_DROPPED = -2
"""A row of the null caption: its projection tells the model that there is a caption, that of the next one, the last,
that the caption is dropped."""


class TimeEmbedder(nn.Module):
    """Embeds a time in [0, 1] by sinusoids and two linear layers, in float32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.condition_size
        self.mlp = nn.Sequential(nn.Linear(_FREQUENCIES, size), nn.SiLU(), nn.Linear(size, size))
        self._rounded = config.dtype

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """Embed times, float32 `[n]` to `[n, Dc]`; the sinusoids are rounded to the model's dtype, as in training."""
        half = _FREQUENCIES // 2
        index = torch.arange(half, dtype=torch.float32, device=t.device)
        # The order of these products is the official one: angles go up to 1000, and another order moves the cosines.
        angle = t.float()[:, None] * torch.exp(-math.log(10000) * index / half) * 1000
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1).to(self._rounded).float())


class CaptionEmbedder(nn.Module):
    """Projects the text for cross-attention, and two rows of the null caption for the condition."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.caption_channels
        self.null_caption_embedding = nn.Parameter(torch.zeros(config.caption_max_length, channels))
        self.y_proj_xattn = nn.Sequential(nn.Linear(channels, config.hidden_size), nn.SiLU())
        self.y_proj_adaln = nn.Sequential(nn.Linear(channels, config.condition_size))

    def forward(self, caption: torch.Tensor) -> torch.Tensor:
        """Project a text, `[text_length, caption_channels]` to `[text_length, D]`."""
        return self.y_proj_xattn(caption.float())

    def dropped(self, flags: torch.Tensor) -> torch.Tensor:
        """Embed whether each caption is dropped, bool `[n]` to `[n, Dc]`."""
        rows = self.y_proj_adaln(self.null_caption_embedding[_NOT_DROPPED:].float())
        return rows[flags.long()]


class FinalLinear(nn.Module):
    """The linear layer of the head, which maps the channels of a token to the values of its patch."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, 4 * config.out_channels, bias=False)


class Blocks(nn.Module):
    """The layers and the last normalisation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_layers))
        self.final_layernorm = LayerNorm1p(config.hidden_size, config.layernorm_epsilon)


class VideoDiT(Compilable):
    """Predicts the velocity (clean - noise) of packed chunks; batch size 1 throughout."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.dtype = config.dtype
        self.latent_channels = config.latent_channels
        self.x_embedder = nn.Conv3d(config.in_channels, config.hidden_size, (1, 2, 2), (1, 2, 2), bias=False)
        self.t_embedder = TimeEmbedder(config)
        self.y_embedder = CaptionEmbedder(config)
        self.rope = LearnableRope(config.kv_channels)
        self.videodit_blocks = Blocks(config)
        self.final_linear = FinalLinear(config)

    def set_dtypes(self) -> "VideoDiT":
        """Cast the parameters to the dtypes that they are used in: embedders, head and most norms stay in float32."""
        for name, parameter in self.named_parameters():
            parameter.data = parameter.data.to(parameter_dtype(name, self.dtype))
        return self

    def embed(self, latents: torch.Tensor) -> torch.Tensor:
        """Embed latents `[channels, frames, height, width]` as `[frames * rows * columns, D]`, in the model's dtype."""
        x = latents.float() * self.config.x_rescale_factor
        if self.config.half_channel_vae:
            x = torch.cat([x, x])
        return self.x_embedder(x[None])[0].flatten(1).T.to(self.dtype)

    def condition(self, t: torch.Tensor, dropped: torch.Tensor, step_size: float | None) -> torch.Tensor:
        """Compute one condition per chunk, `[n, Dc]`.

        Args:
            t: time of each chunk, `[n]`.
            dropped: whether the caption of each chunk is dropped, bool `[n]`.
            step_size: the length of a step as a distilled model is told it, see `distilled_step_size`; None for a base
                model.
        """
        embedded = self.t_embedder(t)
        if step_size is not None:
            embedded = embedded + self.t_embedder(torch.full((1,), step_size, device=t.device))
        return (embedded + self.y_embedder.dropped(dropped)).to(self.dtype)

    def embed_text(self, caption: torch.Tensor) -> torch.Tensor:
        """Project a text, `[text_length, caption_channels]` to `[text_length, D]`, in the model's dtype."""
        return self.y_embedder(caption).to(self.dtype)

    def run_layers(self, tokens: Iterable[torch.Tensor], packs: Sequence[Pack]) -> list[torch.Tensor]:
        """Run all layers over packs of tokens, `[n, D]` each, to hidden states `[n, D]`.

        Every layer runs over one pack after another, so that only one is spread out at a time. A pack sees the keys and
        values of those before it.
        """
        hidden = list(tokens)
        for layer in self.videodit_blocks.layers:
            for place, pack in enumerate(packs):
                hidden[place] = layer(hidden[place], pack)
        return hidden

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Predict velocities as patches (see `to_patches`): `[n, D]` to float32 `[n, 4 * latent_channels]`."""
        patches = self.final_linear.linear(self.videodit_blocks.final_layernorm(hidden.float()))
        velocities = patches.unflatten(1, (4, -1))[..., : self.latent_channels]
        return velocities.flatten(1) / self.config.x_rescale_factor


def to_patches(latents: torch.Tensor) -> torch.Tensor:
    """Cut latents `[channels, frames, height, width]` into patches `[tokens, 4 * channels]`: row, column, channel."""
    x = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [C, F, rows, 2, columns, 2]
    return x.permute(1, 2, 4, 3, 5, 0).flatten(3).flatten(0, 2)


def from_patches(patches: torch.Tensor, frames: int, rows: int, columns: int) -> torch.Tensor:
    """Put patches together to latents; the inverse of `to_patches`."""
    x = patches.view(frames, rows, columns, 2, 2, -1)
    return x.permute(5, 0, 1, 3, 2, 4).flatten(4).flatten(2, 3)
