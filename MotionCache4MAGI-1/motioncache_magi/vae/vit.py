"""MAGI-1's video autoencoder: two vision transformers between pixels and latents, in plain PyTorch.

Tokens come in the flat order (frame, row, column), after one class token. A `grid` is (latent frames, latent height,
latent width).
"""

import torch
import torch.nn.functional as F
from torch import nn

from motioncache.errors import MotionCacheError
from motioncache_magi.vae.blocks import Block
from motioncache_magi.vae.config import Grid, VaeConfig


class ViTVAE(nn.Module):
    """The autoencoder. Parameters are named and shaped as in the official checkpoint, which loads strictly.

    It computes in the dtype of its parameters and converts its inputs to that. Its latents are not scaled: the denoiser
    works on these latents times the scale factor 0.18215.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def patch(self) -> Grid:
        """Pixels that one latent position stands for, (frames, height, width)."""
        return self.config.patch

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """Compute the mean of the posterior.

        Args:
            video: pixels in [-1, 1], `[batch, in_chans, frames, height, width]`; a single frame is encoded as a video
                that repeats it.

        Returns:
            `[batch, z_chans, frames / patch_length, height / patch_size, width / patch_size]`; a single frame gives one
            latent frame.

        Raises:
            MotionCacheError: if a size is no multiple of the patch.
        """
        return self.moments(video)[:, : self.config.z_chans]

    def moments(self, video: torch.Tensor) -> torch.Tensor:
        """Compute the mean of the posterior and its log variance: the shape of `encode`, with `2 z_chans` channels.

        The log variance is not clamped.
        """
        _check_video(video, self.config)
        if video.shape[2] == 1:
            video = video.expand(-1, -1, self.config.patch_length, -1, -1)
        return self.encoder(video.to(self.encoder.cls_token.dtype))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Compute the video, whose pixels are about in [-1, 1].

        Args:
            latents: `[batch, z_chans, latent frames, latent height, latent width]`.

        Returns:
            `[batch, in_chans, frames, height, width]`. Every latent frame gives `patch_length` frames, but a single
            latent frame stands for an image and gives one frame.
        """
        if latents.ndim != 5 or latents.shape[1] != self.config.z_chans:
            wanted = f"[batch, {self.config.z_chans}, frames, height, width]"
            raise MotionCacheError(f"latents must have the shape {wanted}, not {list(latents.shape)}")
        video = self.decoder(latents.to(self.decoder.cls_token.dtype))
        return video[:, :, :1] if latents.shape[2] == 1 else video


class Trunk(nn.Module):
    """The parts that encoder and decoder share: class token, position table, blocks and a last norm."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.native_grid = config.native_grid
        frames, height, width = config.native_grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + frames * height * width, config.embed_dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.embed_dim)

    def transform(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Run the blocks over the tokens of a grid: `[batch, tokens, embed_dim]` to the same shape."""
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + self._positions(grid)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 1:]

    def _positions(self, grid: Grid) -> torch.Tensor:
        """Compute the position table of a grid, `[1, 1 + tokens, embed_dim]`.

        The table of another grid than the trained one is interpolated.
        """
        if grid == self.native_grid:
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().transpose(1, 2).unflatten(2, self.native_grid)  # [1, embed_dim, *grid]
        table = F.interpolate(table, size=grid, mode="trilinear", align_corners=False)
        resized = table.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)  # [1, tokens, embed_dim]
        return torch.cat([self.pos_embed[:, :1], resized], dim=1)


class Encoder(Trunk):
    """The half that turns a video into moments."""

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
    """The half that turns latents into a video."""

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
        """Put the pixels of all tokens side by side: `[batch, tokens, embed_dim]` to `[batch, channels, *pixels]`.

        The channels of a token are the (frame, row, column, channel) of its patch.
        """
        patches = tokens.unflatten(2, (*self.patch, -1)).unflatten(1, grid)
        video = patches.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [batch, channels, frames, patch, rows, patch, columns, patch]
        return video.flatten(6, 7).flatten(4, 5).flatten(2, 3)


class PatchEmbed(nn.Module):
    """The projection that makes one token of every patch of pixels."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.proj = nn.Conv3d(config.in_chans, config.embed_dim, config.patch, stride=config.patch)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.proj(video)


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
