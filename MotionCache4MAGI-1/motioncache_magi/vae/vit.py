"""MAGI-1's video autoencoder: two vision transformers between pixels and latents, in plain PyTorch.

Flat token order is (frame, row, column), after one class token. `grid` is (latent frames, latent height, latent width).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from motioncache.errors import ConfigError, MotionCacheError

Grid = tuple[int, int, int]

_ALWAYS_ON = ("double_z", "with_cls_token", "ln_in_attn", "conv_last_layer")
_ALWAYS_OFF = ("norm_code", "use_rope", "use_final_proj")
_WITHOUT_EFFECT = ("qk_scale", "drop_rate", "attn_drop_rate", "drop_path_rate")
_BOOKKEEPING = ("_diffusers_version", "_name_or_path")
_QKV_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig:
    """Sizes of the autoencoder, under the names of the official `config.json`.

    Args:
        video_size: height and width of the training videos, pixels; with `patch_size` the grid of the position table.
        video_length: their frames.
        patch_size: pixels per latent row and column.
        patch_length: frames per latent frame.
        in_chans: channels of a video.
        z_chans: channels of a latent.
        embed_dim: channels of a token.
        depth: blocks of the encoder, and of the decoder.
        num_heads: attention heads.
        mlp_ratio: hidden channels of the feed-forward, in units of `embed_dim`.
        qkv_bias: queries, keys and values have a bias.
    """

    video_size: int
    video_length: int
    patch_size: int
    patch_length: int
    in_chans: int
    z_chans: int
    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float
    qkv_bias: bool

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        self._check_multiple("video_size", self.video_size, "patch_size", self.patch_size)
        self._check_multiple("video_length", self.video_length, "patch_length", self.patch_length)
        self._check_multiple("embed_dim", self.embed_dim, "num_heads", self.num_heads)
        self._check_multiple("embed_dim", self.embed_dim, "patch_length x patch_size x patch_size", self.patch_volume)

    @staticmethod
    def _check_multiple(name: str, value: int, divisor_name: str, divisor: int) -> None:
        if value % divisor:
            raise ConfigError(f"{name} must be a multiple of {divisor_name} = {divisor}, not {value}")

    @classmethod
    def from_official(cls, config: Mapping[str, Any]) -> "VaeConfig":
        """Read the content of a checkpoint's `config.json`: `_class_name`, `model_type` and `ddconfig`.

        Raises:
            ConfigError: for another kind of autoencoder, for a field that is unknown, missing or of the wrong type, and
                for a variant of the network that no released checkpoint uses.
        """
        where = "VAE config.json"
        _check_keys(where, config, required=("_class_name", "model_type", "ddconfig"), optional=_BOOKKEEPING)
        _check_value(f"{where}: _class_name", config["_class_name"], "ViTVAE")
        _check_value(f"{where}: model_type", config["model_type"], "vit")
        where, values = f"{where}: ddconfig", config["ddconfig"]
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a mapping of sizes, not {values!r}")
        sizes = [field.name for field in fields(cls)]
        _check_keys(where, values, required=(*sizes, *_ALWAYS_ON), optional=(*_ALWAYS_OFF, *_WITHOUT_EFFECT))
        for name in _ALWAYS_ON:
            _check_value(f"{where}.{name}", values[name], True)
        for name in _ALWAYS_OFF:
            _check_value(f"{where}.{name}", values.get(name, False), False)
        for name in _WITHOUT_EFFECT:
            if values.get(name) not in (0, None):
                raise ConfigError(f"{where}.{name} must be 0 or null, not {values[name]!r}: inference does not use it")
        try:
            return cls(**{name: values[name] for name in sizes})
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from None

    @property
    def native_grid(self) -> Grid:
        """The grid that the position tables were trained on."""
        side = self.video_size // self.patch_size
        return self.video_length // self.patch_length, side, side

    @property
    def patch(self) -> Grid:
        """(frames, height, width) of the pixels of one token."""
        return self.patch_length, self.patch_size, self.patch_size

    @property
    def patch_volume(self) -> int:
        return self.patch_length * self.patch_size**2


class ViTVAE(nn.Module):
    """The autoencoder. Parameters are named and shaped as in the official checkpoint, which loads strictly.

    It computes in the dtype of its parameters, and converts what it is given. Latents are those of the autoencoder
    itself: the denoiser's are these times the scale factor 0.18215.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def patch(self) -> Grid:
        """(frames, height, width) of the pixels of one latent position."""
        return self.config.patch

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """Posterior mean.

        Args:
            video: in [-1, 1], `[batch, in_chans, frames, height, width]`; one frame is encoded as if it stood still.

        Returns:
            `[batch, z_chans, frames / patch_length, height / patch_size, width / patch_size]`; one latent frame for one
            frame.

        Raises:
            ValueError: for a size that is no multiple of the patch.
        """
        return self.moments(video)[:, : self.config.z_chans]

    def moments(self, video: torch.Tensor) -> torch.Tensor:
        """Posterior mean, then log variance as the network gives it: as `encode`, with `2 z_chans` channels."""
        _check_video(video, self.config)
        if video.shape[2] == 1:
            video = video.expand(-1, -1, self.config.patch_length, -1, -1)
        return self.encoder(video.to(self.encoder.cls_token.dtype))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Video, about in [-1, 1].

        Args:
            latents: `[batch, z_chans, latent frames, latent height, latent width]`.

        Returns:
            `[batch, in_chans, frames, height, width]`, `patch_length` frames for a latent frame; but one frame for a
            single latent frame, which stands for an image.
        """
        if latents.ndim != 5 or latents.shape[1] != self.config.z_chans:
            wanted = f"[batch, {self.config.z_chans}, frames, height, width]"
            raise MotionCacheError(f"latents must have the shape {wanted}, not {list(latents.shape)}")
        video = self.decoder(latents.to(self.decoder.cls_token.dtype))
        return video[:, :, :1] if latents.shape[2] == 1 else video


class Trunk(nn.Module):
    """What encoder and decoder share: class token, positions, blocks and a last norm."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.native_grid = config.native_grid
        frames, height, width = config.native_grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + frames * height * width, config.embed_dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.embed_dim)

    def transform(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """`[batch, tokens, embed_dim]` of a grid -> the same shape."""
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + self._positions(grid)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 1:]

    def _positions(self, grid: Grid) -> torch.Tensor:
        """Position table of a grid, `[1, 1 + tokens, embed_dim]`; other grids than the trained one interpolate it."""
        if grid == self.native_grid:
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().transpose(1, 2).unflatten(2, self.native_grid)  # [1, embed_dim, *grid]
        table = F.interpolate(table, size=grid, mode="trilinear", align_corners=False)
        resized = table.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)  # [1, tokens, embed_dim]
        return torch.cat([self.pos_embed[:, :1], resized], dim=1)


class Encoder(Trunk):
    """Video to moments."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(config)
        self.last_layer = nn.Linear(config.embed_dim, 2 * config.z_chans)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """`[batch, in_chans, frames, height, width]` -> `[batch, 2 z_chans, *grid]`."""
        patches = self.patch_embed(video)  # [batch, embed_dim, *grid]
        grid = _grid(patches)
        tokens = self.transform(patches.flatten(2).transpose(1, 2), grid)
        return self.last_layer(tokens).transpose(1, 2).unflatten(2, grid)


class Decoder(Trunk):
    """Latents to video."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__(config)
        self.patch = config.patch
        self.proj_in = nn.Linear(config.z_chans, config.embed_dim)
        self.last_layer = nn.Conv3d(config.embed_dim // config.patch_volume, config.in_chans, 3, padding=1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """`[batch, z_chans, *grid]` -> `[batch, in_chans, frames, height, width]`."""
        grid = _grid(latents)
        tokens = self.transform(self.proj_in(latents.flatten(2).transpose(1, 2)), grid)
        return self.last_layer(self._unpatch(tokens, grid))

    def _unpatch(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """A token's channels are (frame, row, column, channel) of its patch: `[batch, channels, *pixels]`."""
        patches = tokens.unflatten(2, (*self.patch, -1)).unflatten(1, grid)
        video = patches.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [batch, channels, frames, patch, rows, patch, columns, patch]
        return video.flatten(6, 7).flatten(4, 5).flatten(2, 3)


class PatchEmbed(nn.Module):
    """One token for every patch of pixels."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.proj = nn.Conv3d(config.in_chans, config.embed_dim, config.patch, stride=config.patch)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.proj(video)


class Block(nn.Module):
    """Attention, which normalises inside and not before, then a feed-forward with a norm before it."""

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
        # Training on a CPU puts plain products in its place.
        self.attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = F.scaled_dot_product_attention

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """`[batch, tokens, embed_dim]` -> the same shape."""
        query, key, value = self.normalised_qkv(tokens).permute(2, 0, 3, 1, 4)  # [batch, heads, tokens, head channels]
        attended = self.attend(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def normalised_qkv(self, tokens: torch.Tensor) -> torch.Tensor:
        """(z - mean) / (std + 1e-5) over the channels of a head: `[batch, tokens, 3, heads, head channels]`.

        The epsilon is added to the standard deviation, not to the variance as in a layer norm; statistics are float32.
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


def _grid(x: torch.Tensor) -> Grid:
    frames, height, width = x.shape[2:]
    return frames, height, width


def _check_video(video: torch.Tensor, config: VaeConfig) -> None:
    if video.ndim != 5 or video.shape[1] != config.in_chans:
        wanted = f"[batch, {config.in_chans}, frames, height, width]"
        raise MotionCacheError(f"a video must have the shape {wanted}, not {list(video.shape)}")
    frames, height, width = video.shape[2:]
    if frames != 1 and (frames < 1 or frames % config.patch_length):
        raise MotionCacheError(f"frames must be 1 or a multiple of {config.patch_length}, not {frames}: cut the video")
    for name, size in (("height", height), ("width", width)):
        if size < 1 or size % config.patch_size:
            raise MotionCacheError(f"{name} must be a multiple of {config.patch_size}, not {size}: resize the video")


def _check_type(name: str, value: Any, wanted: Any) -> None:
    if wanted is bool:
        fits, words = isinstance(value, bool), "true or false"
    elif wanted is int:
        fits, words = isinstance(value, int) and not isinstance(value, bool) and value > 0, "a whole number above 0"
    else:
        fits, words = isinstance(value, int | float) and not isinstance(value, bool) and value > 0, "a number above 0"
    if not fits:
        raise ConfigError(f"{name} must be {words}, not {value!r}")


def _check_keys(where: str, given: Mapping[str, Any], *, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    for name in required:
        if name not in given:
            raise ConfigError(f"{where} lacks {name!r}: use the config.json that came with the weights")
    for name in given:
        if name not in required and name not in optional:
            known = ", ".join(sorted({*required, *optional}))
            raise ConfigError(f"{where}: unknown field {name!r}; known fields: {known}")


def _check_value(name: str, value: Any, wanted: Any) -> None:
    if value != wanted:
        raise ConfigError(f"{name} must be {wanted!r}, not {value!r}: only MAGI-1's released autoencoder is supported")
