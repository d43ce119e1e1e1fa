"""Encoding and decoding in overlapping tiles, so that memory does not grow with the size of the video.

A grid, a size, a stride or an extent is (frames, height, width); each place says whether it counts pixels or latents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_magi.vae.config import Grid

_AXES = (2, 3, 4)
"""Frames, height and width of `[batch, channels, frames, height, width]`, in the order in which tiles are blended."""


class Autoencoder(Protocol):
    """The interface that tiling needs; `motioncache_magi.vae.vit.ViTVAE` has it."""

    @property
    def patch(self) -> Grid:
        """Pixels that one latent position stands for, (frames, height, width)."""
        ...

    def encode(self, video: torch.Tensor, /) -> torch.Tensor: ...

    def decode(self, latents: torch.Tensor, /) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The size of a tile in pixels, and the share of it that overlaps the next tile.

    Sizes are rounded down to whole patches. An overlap should be whole patches too: the official arithmetic, which we
    follow, rounds it for the stride and for the crop separately, and neighbours then show some pixels twice.
    """

    frames: int
    height: int
    width: int
    spatial_overlap: float = 0.25
    temporal_overlap: float = 0.0

    def __post_init__(self) -> None:
        for name, size in (("frames", self.frames), ("height", self.height), ("width", self.width)):
            if size < 1:
                raise ConfigError(f"{name} must be at least 1, not {size}")
        for name in ("spatial_overlap", "temporal_overlap"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and less than 1, not {getattr(self, name)}")

    @classmethod
    def for_frame_rate(cls, fps: int, *, patch_length: int = 4) -> "Tiling":
        """Create the official tiling: half a second of 256 x 256 pixels.

        A tile holds two latent frames or more. At less than 16 frames a second it holds one in the official code, which
        then decodes every latent frame to a still of one frame.
        """
        return cls(frames=max(fps // 2, 2 * patch_length), height=256, width=256)

    @property
    def overlap(self) -> tuple[float, float, float]:
        return self.temporal_overlap, self.spatial_overlap, self.spatial_overlap


def encode_tiled(vae: Autoencoder, video: torch.Tensor, tiling: Tiling) -> torch.Tensor:
    """Encode pixels to latents as `vae.encode` does, tile by tile; both are `[batch, channels, frames, height, width]`.

    A tile is blended with neighbours that are blended already. A last tile of one frame gives one latent frame.
    """
    latent, pixel = _tile_sizes(tiling, vae.patch)
    tiles = _map_tiles(vae.encode, video, _strides(pixel, tiling), pixel)
    return _join(tiles, latent, tiling, neighbours_are_blended=True)


def decode_tiled(vae: Autoencoder, latents: torch.Tensor, tiling: Tiling) -> torch.Tensor:
    """Decode latents to pixels as `vae.decode` does, tile by tile; both are `[batch, channels, frames, height, width]`.

    A tile is blended with its neighbours as they were decoded. A last tile of one latent frame gives one frame, as in
    the official code: four latent frames in tiles of three decode to 12 + 1 frames.
    """
    latent, pixel = _tile_sizes(tiling, vae.patch)
    tiles = _map_tiles(vae.decode, latents, _strides(latent, tiling), latent)
    return _join(tiles, pixel, tiling, neighbours_are_blended=False)


def _tile_sizes(tiling: Tiling, patch: Grid) -> tuple[Grid, Grid]:
    """Compute the size of a tile in latents and in pixels."""
    frames, height, width = tiling.frames // patch[0], tiling.height // patch[1], tiling.width // patch[2]
    if min(frames, height, width) < 1:
        size = (tiling.frames, tiling.height, tiling.width)
        raise MotionCacheError(f"a tile of {size} pixels (frames, height, width) is smaller than a patch, {patch}")
    return (frames, height, width), (frames * patch[0], height * patch[1], width * patch[2])


def _strides(size: Grid, tiling: Tiling) -> list[int]:
    strides = [int(length * (1 - share)) for length, share in zip(size, tiling.overlap, strict=True)]
    if min(strides) < 1:
        raise MotionCacheError(
            f"tiles of {size} (frames, height, width) that overlap by {tiling.overlap} do not advance"
        )
    return strides


def _map_tiles(
    run: Callable[[torch.Tensor], torch.Tensor], whole: torch.Tensor, strides: list[int], size: Grid
) -> dict[Grid, torch.Tensor]:
    """Run every tile; the results stand in raster order under (frame, row, column) of the tile in the grid of tiles.

    Tiles at the end of an axis may be smaller than `size`.
    """
    if whole.ndim != 5 or 0 in whole.shape:
        shape = list(whole.shape)
        raise MotionCacheError(f"expected a filled tensor [batch, channels, frames, height, width], not {shape}")
    counts = [range(-(-length // stride)) for length, stride in zip(whole.shape[2:], strides, strict=True)]
    tiles: dict[Grid, torch.Tensor] = {}
    for frame, row, column in product(*counts):
        starts = (frame * strides[0], row * strides[1], column * strides[2])
        window = [slice(start, start + length) for start, length in zip(starts, size, strict=True)]
        tiles[frame, row, column] = run(whole[:, :, window[0], window[1], window[2]])
    return tiles


def _join(tiles: dict[Grid, torch.Tensor], size: Grid, tiling: Tiling, *, neighbours_are_blended: bool) -> torch.Tensor:
    """Blend every tile with those before it, drop what the next tiles cover, and put the rest side by side."""
    extents = [int(length * share) for length, share in zip(size, tiling.overlap, strict=True)]
    limits = [slice(length - extent) for length, extent in zip(size, extents, strict=True)]
    blended: dict[Grid, torch.Tensor] = {}
    for index, tile in tiles.items():
        blended[index] = _blend_tile(tile, index, blended if neighbours_are_blended else tiles, extents)
    return _side_by_side({index: tile[:, :, limits[0], limits[1], limits[2]] for index, tile in blended.items()})


def _side_by_side(tiles: Mapping[Grid, torch.Tensor]) -> torch.Tensor:
    frames, rows, columns = (range(last + 1) for last in max(tiles))

    def row_of(frame: int, row: int) -> torch.Tensor:
        return torch.cat([tiles[frame, row, column] for column in columns], dim=4)

    def slab_of(frame: int) -> torch.Tensor:
        return torch.cat([row_of(frame, row) for row in rows], dim=3)

    return torch.cat([slab_of(frame) for frame in frames], dim=2)


def _blend_tile(
    tile: torch.Tensor, index: Grid, neighbours: Mapping[Grid, torch.Tensor], extents: list[int]
) -> torch.Tensor:
    """Blend a tile with the one before it in time, then with the one above, then with the one on the left."""
    frame, row, column = index
    before = ((frame - 1, row, column), (frame, row - 1, column), (frame, row, column - 1))
    for axis, neighbour, extent in zip(_AXES, before, extents, strict=True):
        if neighbour in neighbours:
            tile = _blend(neighbours[neighbour], tile, axis, extent)
    return tile


def _blend(before: torch.Tensor, tile: torch.Tensor, axis: int, extent: int) -> torch.Tensor:
    """Let the last `extent` positions of the tile before pass linearly into the first ones of this tile."""
    extent = min(extent, before.shape[axis], tile.shape[axis])
    if extent == 0:
        return tile
    share = torch.arange(extent, device=tile.device, dtype=torch.float32) / extent
    share = share.to(tile.dtype).view([-1 if i == axis else 1 for i in range(tile.ndim)])
    old = before.narrow(axis, before.shape[axis] - extent, extent)
    new, rest = tile.tensor_split([extent], dim=axis)
    return torch.cat([old * (1 - share) + new * share, rest], dim=axis)
