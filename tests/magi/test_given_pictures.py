"""Pictures of all kinds that people have, to start a video from."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from motioncache.errors import MotionCacheError
from motioncache_magi.given.frames import image_frames
from motioncache_magi.given.pictures import open_picture, to_rgb

RED, WHITE = (255, 0, 0), (255, 255, 255)


def corners(picture: Image.Image) -> list[Any]:
    """The pixels of the corners, clockwise from the upper left."""
    right, lower = picture.width - 1, picture.height - 1
    return [picture.getpixel(place) for place in ((0, 0), (right, 0), (right, lower), (0, lower))]


def coloured() -> Image.Image:
    """4 x 2 pixels, whose left half is red over blue."""
    picture = Image.new("RGB", (4, 2), "white")
    picture.paste("red", (0, 0, 2, 1))
    picture.paste("blue", (0, 1, 2, 2))
    return picture


UPRIGHT = corners(coloured())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_shown_as_its_exif_orientation_says(orientation: int, tmp_path: Path) -> None:
    transposes = [
        None,
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_90,  # a camera that was turned clockwise
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_270,
    ]
    transpose = transposes[orientation - 1]
    stored = coloured() if transpose is None else coloured().transpose(transpose)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "it.png", exif=exif)
    for read in (open_picture(tmp_path / "it.png"), to_rgb(Image.open(tmp_path / "it.png"), "it")):
        assert read.size == (4, 2)
        assert corners(read) == UPRIGHT


def grey_16_png(path: Path, value: int) -> None:
    """A PNG of one pixel, grey, 16 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 16, 0, 0, 0, 0)
    data = zlib.compress(b"\0" + struct.pack(">H", value))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("value", "shade"), [(0, 0), (257, 1), (25700, 100), (32896, 128), (65535, 255)])
def test_grey_of_16_bits_keeps_its_shades(value: int, shade: int, tmp_path: Path) -> None:
    grey_16_png(tmp_path / "it.png", value)
    assert open_picture(tmp_path / "it.png").getpixel((0, 0)) == (shade, shade, shade)
    Image.fromarray(np.full((2, 2), value, np.uint16)).save(tmp_path / "it.tif")
    assert open_picture(tmp_path / "it.tif").getpixel((0, 0)) == (shade, shade, shade)
    assert to_rgb(np.full((2, 2), value, np.uint16), "it").getpixel((0, 0)) == (shade, shade, shade)


def palette(transparent: bool) -> Image.Image:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    if transparent:
        picture.info["transparency"] = 1
    return picture


@pytest.mark.parametrize(
    ("picture", "left", "right"),
    [
        (Image.new("L", (2, 1), 90), (90, 90, 90), (90, 90, 90)),
        (Image.new("1", (2, 1), 1), WHITE, WHITE),
        (Image.new("CMYK", (2, 1), (0, 255, 255, 0)), RED, RED),
        (Image.new("YCbCr", (2, 1), (255, 128, 128)), WHITE, WHITE),
        (palette(False), RED, (0, 0, 255)),
        (palette(True), RED, WHITE),
        (Image.fromarray(np.array([[[255, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)), RED, WHITE),
        (Image.fromarray(np.array([[[0, 0, 0, 51], [9, 9, 9, 255]]], np.uint8)), (204, 204, 204), (9, 9, 9)),
        (Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8)), (7, 7, 7), WHITE),
    ],
    ids=["grey", "bits", "CMYK", "YCbCr", "palette", "clear palette", "RGBA", "half clear", "grey and alpha"],
)
def test_every_mode_becomes_rgb_and_transparent_parts_white(picture: Image.Image, left: Any, right: Any) -> None:
    read = to_rgb(picture, "it")
    assert (read.mode, read.size) == ("RGB", (2, 1))
    assert (read.getpixel((0, 0)), read.getpixel((1, 0))) == (left, right)


RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        RGB,
        RGB[None],
        RGB / 255,
        (RGB / 255).astype(np.float32),
        RGB.astype(np.uint16) * 257,
        np.dstack([RGB, np.full((5, 7), 255, np.uint8)]),
        RGB[:, ::-1][:, ::-1],
        torch.from_numpy(RGB).permute(2, 0, 1),
        torch.from_numpy(RGB / 255).permute(2, 0, 1)[None].requires_grad_(),
        [Image.fromarray(RGB)],
        Image.fromarray(RGB),
    ],
    ids=lambda picture: type(picture).__name__,
)
def test_arrays_tensors_and_pictures_are_one_image(picture: Any) -> None:
    frame = image_frames(picture, 5, 7)
    assert frame.shape == (1, 3, 1, 5, 7)
    assert torch.equal(frame[0, :, 0].permute(1, 2, 0), torch.from_numpy(RGB).float() / 127.5 - 1)


def test_grey_arrays_and_tensors() -> None:
    for picture in (RGB[:, :, 0], RGB[:, :, :1], torch.from_numpy(RGB)[None, :, :, 0], torch.from_numpy(RGB)[:, :, 0]):
        assert np.array_equal(np.asarray(to_rgb(picture, "it"))[:, :, 2], RGB[:, :, 0])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 500), (401, 2)])
def test_odd_sizes_are_resized(height: int, width: int) -> None:
    frame = image_frames(np.full((height, width, 3), 51, np.uint8), 32, 48)
    assert frame.shape == (1, 3, 1, 32, 48)
    assert frame.unique().tolist() == pytest.approx([51 / 127.5 - 1])


def test_a_photo_of_a_phone_with_a_preview_is_its_first_picture(tmp_path: Path) -> None:
    Image.new("RGB", (16, 8), "red").save(
        tmp_path / "it.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 2), "blue")], quality=100
    )
    assert Image.open(tmp_path / "it.jpg").format == "MPO"
    assert open_picture(tmp_path / "it.jpg").getpixel((8, 4)) == pytest.approx(RED, abs=3)


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_a_file_of_several_pictures_is_refused_as_an_image(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"it.{kind}"
    first, *others = (Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue"))
    first.save(path, save_all=True, append_images=others)
    with pytest.raises(MotionCacheError, match="holds 3 pictures: pass one of them, or the file as video="):
        open_picture(path)


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "bmp"])
def test_a_file_that_was_cut_off_is_refused(kind: str, tmp_path: Path) -> None:
    truncated(tmp_path / f"it.{kind}")
    with pytest.raises(MotionCacheError, match=rf"the image .*it\.{kind} cannot be read: \S"):
        open_picture(tmp_path / f"it.{kind}")
    if kind != "webp":  # which is read at once
        with pytest.raises(MotionCacheError, match=r"the image cannot be used: \S"):
            image_frames(Image.open(tmp_path / f"it.{kind}"), 32, 48)


def test_what_is_no_image_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture\n" * 9)
    for path in (tmp_path, tmp_path / "none.png", tmp_path / "empty.png", tmp_path / "text.png"):
        with pytest.raises(MotionCacheError, match=r"the image .* cannot be read: \S") as caught:
            image_frames(path, 32, 48)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (5, "the image is of type int: pass a picture"),
        ([], "the image is of type list"),
        ([Image.new("L", (1, 1))] * 2, "the image is of type list"),
        (b"it.png", "the image is of type bytes"),
        (np.zeros((2, 3, 32, 48)), r"the image has the shape \(2, 3, 32, 48\): pass \[height, width, channels\]"),
        (np.zeros((3, 32, 48), np.uint8), r"the image has the shape \(3, 32, 48\)"),
        (torch.zeros(32, 48, 3), r"the shape \(32, 48, 3\): pass \[channels, height, width\] with 1 to 4 channels"),
        (np.zeros((0, 8, 3), np.uint8), r"the shape \(0, 8, 3\)"),
        (np.full((2, 2, 3), 255.0), r"floats from 255 to 255: pass floats in \[0, 1\], or uint8"),
        (np.full((2, 2, 3), -1.0), "floats from -1 to -1"),
        (np.array([[0.5, np.nan]]), "floats from nan to nan"),
        (np.zeros((2, 2, 3), np.int64), "holds int64: pass uint8, or floats"),
        (np.zeros((2, 2), bool), "holds bool"),
        (np.array([["a"]]), "holds <U1"),
        (torch.zeros(3, 2, 2, dtype=torch.complex64), "holds complex64"),
        (Image.new("F", (2, 2), 0.5), "the image has values of 32 bits, of which none is white"),
        (Image.new("I", (2, 2), 70000), "the image has values of 32 bits"),
    ],
)
def test_what_is_no_picture_is_refused(picture: Any, message: str) -> None:
    with pytest.raises(MotionCacheError, match=message):
        image_frames(picture, 32, 48)
