"""Reads off a video of one shape what the caption says: background, colour and shape, and how it moves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motioncache_eval.scenes import BACKGROUND_COLOURS, DIRECTIONS, OBJECT_COLOURS

_FOREGROUND = 70.0
"""Distance in RGB from the background's median colour; the texture stays below 40."""

_FEWEST_PIXELS = 20

_SQUARE = 0.83
"""Between the squareness of a disk, 0.67, and that of a square, 1."""

_STILL = 0.15
"""Pixels per frame under which a shape counts as resting."""


_STEADIEST_MSE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What a video shows.

    Attributes:
        background: name of the nearest background colour.
        background_db: PSNR from frame to frame over the pixels that show background in both, at most 120.
        colour: name of the nearest object colour in most frames; None where no frame shows a shape.
        shown: share of the frames that show a shape of that colour.
        shape: circle or square, from the median over the frames; None where no frame shows a shape.
        velocity: pixels per frame, (x, y), by least squares over the video on the torus.
        direction: where the shape moves; None where it rests.
    """

    background: str
    background_db: float
    colour: str | None = None
    shown: float = 0.0
    shape: str | None = None
    velocity: tuple[float, float] = (0.0, 0.0)
    direction: str | None = None

    @property
    def speed(self) -> float:
        """Pixels per frame."""
        return float(np.hypot(*self.velocity))


def detect(video: NDArray[np.uint8]) -> Detection:
    """Detect in uint8 `[frames, height, width, 3]`; meant for scenes of one shape without a pan."""
    pixels = video.astype(np.float32)
    middle = np.median(pixels, axis=(0, 1, 2))
    mask = np.linalg.norm(pixels - middle, axis=-1) > _FOREGROUND  # [frames, height, width]
    seen = mask.sum(axis=(1, 2)) > _FEWEST_PIXELS
    background, steady = _nearest(middle, BACKGROUND_COLOURS), _steadiness(pixels, ~_grow(mask))
    if not seen.any():
        return Detection(background=background, background_db=steady)
    shapes = [frame[m] for frame, m in zip(pixels[seen], mask[seen], strict=True)]
    colours = [_nearest(np.median(shape, axis=0), OBJECT_COLOURS) for shape in shapes]
    colour = max(set(colours), key=colours.count)
    velocity = (_drift(mask.sum(axis=1)), _drift(mask.sum(axis=2)))
    return Detection(
        background=background,
        background_db=steady,
        colour=colour,
        shown=colours.count(colour) / len(video),
        shape="circle" if np.median([_squareness(m) for m in mask[seen]]) < _SQUARE else "square",
        velocity=velocity,
        direction=_direction(velocity),
    )


def _nearest(colour: NDArray[np.float32], names: dict[str, tuple[int, int, int]]) -> str:
    return min(names, key=lambda name: float(np.linalg.norm(colour - np.array(names[name]))))


def _steadiness(pixels: NDArray[np.float32], background: NDArray[np.bool_]) -> float:
    both = background[1:] & background[:-1]
    change = ((pixels[1:] - pixels[:-1]) / 255)[both]
    return float(-10 * np.log10(max(np.square(change).mean(), _STEADIEST_MSE))) if change.size else 0.0


def _grow(mask: NDArray[np.bool_], by: int = 2) -> NDArray[np.bool_]:
    """The mask and all pixels within `by` of it: the soft edge of a shape is neither shape nor background."""
    for axis in (1, 2):
        mask = np.any([np.roll(mask, shift, axis) for shift in range(-by, by + 1)], axis=0)
    return mask


def _squareness(mask: NDArray[np.bool_]) -> float:
    """E[x^2 y^2] / (E[x^2] E[y^2]) about the centre on the torus: 1 for a square along the axes, 2/3 for a disk."""
    height, width = mask.shape
    y, x = (_about_centre(mask.sum(axis=axis), size) ** 2 for axis, size in ((1, height), (0, width)))
    weight = mask / mask.sum()
    return float((weight * np.outer(y, x)).sum() / ((weight.sum(1) * y).sum() * (weight.sum(0) * x).sum()))


def _about_centre(profile: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Signed distances of all positions from the circular centre of a profile."""
    centre = np.angle((profile * np.exp(2j * np.pi * np.arange(size) / size)).sum()) * size / (2 * np.pi)
    return (np.arange(size) - centre + size / 2) % size - size / 2


def _drift(profile: NDArray[np.int64]) -> float:
    """Slope in pixels per frame of the circular centre of `[frames, size]` counts; frames without any are left out."""
    size = profile.shape[1]
    seen = profile.sum(axis=1) > 0
    wave = np.exp(2j * np.pi * np.arange(size) / size)
    angle = np.unwrap(np.angle((profile[seen] * wave).sum(axis=1)))
    time = np.arange(len(profile))[seen]
    if len(time) < 2:
        return 0.0
    return float(np.polyfit(time, angle * size / (2 * np.pi), 1)[0])


def _direction(velocity: tuple[float, float]) -> str | None:
    x, y = velocity
    if max(abs(x), abs(y)) < _STILL:
        return None
    heading = (int(np.sign(x)), 0) if abs(x) > abs(y) else (0, int(np.sign(y)))
    return next(name for name, vector in DIRECTIONS.items() if vector == heading)
