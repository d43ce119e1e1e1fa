"""Turns any picture into RGB of 8 bits, upright and opaque, or refuses it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from motioncache.errors import MotionCacheError
from motioncache.field_types import LONGEST_SHOWN

Picture = Image.Image | np.ndarray | torch.Tensor
"""A picture of Pillow, an array `[height, width, channels]`, or a tensor `[channels, height, width]`."""

_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_CLEAR = ("LA", "La", "PA", "RGBA", "RGBa")
_ROUNDING = 1e-3
"""Floats may lie so far beyond [0, 1]."""


def open_picture(path: Path) -> Image.Image:
    """Read a picture from a file.

    Raises:
        MotionCacheError: for a file that is missing, damaged or no picture, or holds several.
    """
    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MotionCacheError(f"the image {one_line(path)} cannot be read: {one_line(error)}") from None
    return to_rgb(picture, f"the image {one_line(path)}")


def to_rgb(picture: Any, what: str) -> Image.Image:
    """Convert a picture to RGB of 8 bits, turned as its EXIF orientation says; transparent parts become white.

    Arrays and tensors hold uint8, uint16, or floats in [0, 1], and 1 to 4 channels: grey, grey and alpha, RGB, RGBA.

    Args:
        what: name of the picture, for error messages.

    Raises:
        MotionCacheError: if it is something else, or its values have no white.
    """
    if isinstance(picture, torch.Tensor | np.ndarray):
        return _to_rgb(Image.fromarray(_pixels(_channels_last(picture, what), what)), what)
    if not isinstance(picture, Image.Image):
        raise MotionCacheError(
            f"{what} is of type {type(picture).__name__}: pass a picture, an array, a tensor or a file"
        )
    pictures = getattr(picture, "n_frames", 1)
    if pictures > 1 and picture.format != "MPO":  # photos of phones, whose other pictures are previews
        raise MotionCacheError(f"{what} holds {pictures} pictures: pass one of them, or the file as video=")
    return _to_rgb(picture, what)


def _to_rgb(picture: Image.Image, what: str) -> Image.Image:
    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode in _GREY_16 or (picture.mode == "I" and picture.format == "PNG"):
            return Image.fromarray(_eight_bits(np.asarray(picture))).convert("RGB")
        if picture.mode in ("I", "F"):
            raise MotionCacheError(f"{what} has values of 32 bits, of which none is white: save it with 8 or 16 bits")
        if picture.mode not in _CLEAR and "transparency" not in picture.info:
            return picture.convert("RGB")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    except MotionCacheError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise MotionCacheError(f"{what} cannot be used: {one_line(error)}; save it as RGB") from None


def _channels_last(picture: torch.Tensor | np.ndarray, what: str) -> np.ndarray:
    """`[height, width]` or `[height, width, channels]`, without the batch dimension of diffusers' outputs."""
    first = isinstance(picture, torch.Tensor)
    array = _to_numpy(picture)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 3 and first:
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)) or array.size == 0:
        order = "[channels, height, width]" if first else "[height, width, channels]"
        raise MotionCacheError(f"{what} has the shape {tuple(picture.shape)}: pass {order} with 1 to 4 channels")
    return array


def _to_numpy(picture: torch.Tensor | np.ndarray) -> np.ndarray:
    if isinstance(picture, np.ndarray):
        return picture
    picture = picture.detach().cpu()
    return (picture.float() if picture.is_floating_point() else picture).numpy()


def _pixels(array: np.ndarray, what: str) -> np.ndarray:
    """The values as uint8."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint16:
        return _eight_bits(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise MotionCacheError(f"{what} holds {array.dtype}: pass uint8, or floats in [0, 1]")
    least, greatest = float(array.min()), float(array.max())
    if not (least >= -_ROUNDING and greatest <= 1 + _ROUNDING):  # a NaN makes both NaN
        raise MotionCacheError(f"{what} holds floats from {least:g} to {greatest:g}: pass floats in [0, 1], or uint8")
    return (array.clip(0, 1) * 255).round().astype(np.uint8)


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """Values of 16 bits with 8; 65535 becomes 255."""
    return (array.astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8)


def one_line(value: object) -> str:
    """The text of an error or of a path, as errors show it."""
    return " ".join(str(value).split())[:LONGEST_SHOWN]
