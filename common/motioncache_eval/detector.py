"""Finds out what a video shows: background, colours and shapes, how they move, and whether the camera moves.

It is made for the scenes of `motioncache_eval.scenes`: shapes of different colours on a smooth background.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motioncache_eval.scenes import BACKGROUND_COLOURS, DIRECTIONS, OBJECT_COLOURS, WAVES
from motioncache_eval.torus import grow, slope, squareness, velocity

_FOREGROUND = 70.0
"""A pixel that is farther than this in RGB from the median colour is a shape's; the texture stays below 40."""

_EDGE = 2
"""Width of a shape's soft edge in pixels, where its colour mixes with the background's."""

_FEWEST_PIXELS = 30
"""A frame shows a shape if more pixels than this lie inside its edge; the smallest shape has about 140."""

_FEWEST_FRAMES = 0.25
"""A shape that fewer frames show, as a share of all, does not count."""

_SQUARE = 0.83
"""Squareness from which on a shape is a square: a disk has 0.67, a square 1."""

_STILL = 0.15
"""A shape or a camera that is slower, in pixels per frame, rests."""

_STEADIEST_MSE = 1e-12
"""Smallest mean squared error that is told from 0."""

_STRIDE = 2
"""Rows and columns from one that is read to the next: for the texture's phase, every second is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedShape:
    """One shape of a video.

    Attributes:
        colour: name of the nearest object colour.
        shown: share of the frames that show it.
        shape: circle or square, from the median over the frames.
        velocity: pixels per frame, (x, y), by least squares over the video on the torus.
    """

    colour: str
    shown: float
    shape: str
    velocity: tuple[float, float]

    @property
    def direction(self) -> str | None:
        """The direction in which the shape moves in the picture; None if it rests."""
        return direction_of(self.velocity)

    @property
    def speed(self) -> float:
        """Pixels per frame."""
        return float(np.hypot(*self.velocity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What a video shows.

    Attributes:
        background: name of the nearest background colour.
        background_db: PSNR from frame to frame over the pixels that show background in both, at most 120.
        camera: velocity of the background's texture, pixels per frame, (x, y).
        shapes: the shapes, the one that is shown longest first.
    """

    background: str
    background_db: float
    camera: tuple[float, float]
    shapes: tuple[DetectedShape, ...]


def detect(video: NDArray[np.uint8]) -> Detection:
    """Find out what a video shows, uint8 `[frames, height, width, 3]`."""
    pixels = video.astype(np.float32)
    background = np.median(pixels, axis=(0, 1, 2))
    foreground = np.linalg.norm(pixels - background, axis=-1) > _FOREGROUND  # [frames, height, width]
    behind = ~grow(foreground, _EDGE)
    return Detection(
        background=_nearest(background, BACKGROUND_COLOURS),
        background_db=_steadiness(pixels, behind),
        camera=_texture_velocity(pixels, behind),
        shapes=_shapes(pixels, foreground),
    )


def direction_of(velocity: tuple[float, float]) -> str | None:
    """The nearest of the four directions; None for a velocity so small that it counts as rest."""
    x, y = velocity
    if max(abs(x), abs(y)) < _STILL:
        return None
    heading = (int(np.sign(x)), 0) if abs(x) > abs(y) else (0, int(np.sign(y)))
    return next(name for name, vector in DIRECTIONS.items() if vector == heading)


def _shapes(pixels: NDArray[np.float32], foreground: NDArray[np.bool_]) -> tuple[DetectedShape, ...]:
    """One shape for each object colour that enough frames show, the one that is shown longest first."""
    inside = ~grow(~foreground, _EDGE)
    colours = np.array(list(OBJECT_COLOURS.values()), np.float32)
    nearest = np.linalg.norm(pixels[..., None, :] - colours, axis=-1).argmin(axis=-1)  # [frames, height, width]
    found: list[DetectedShape] = []
    for i, name in enumerate(OBJECT_COLOURS):
        core = inside & (nearest == i)
        seen = core.sum(axis=(1, 2)) > _FEWEST_PIXELS
        if seen.mean() < _FEWEST_FRAMES:
            continue
        masks = grow(core[seen], 2 * _EDGE) & foreground[seen] & ~(inside & (nearest != i))[seen]
        found.append(
            DetectedShape(
                colour=name,
                shown=float(seen.mean()),
                shape="circle" if np.median([squareness(mask) for mask in masks]) < _SQUARE else "square",
                velocity=velocity(masks, np.flatnonzero(seen)),
            )
        )
    return tuple(sorted(found, key=lambda shape: -shape.shown))


def _nearest(colour: NDArray[np.float32], names: dict[str, tuple[int, int, int]]) -> str:
    """Name of the nearest colour."""
    return min(names, key=lambda name: float(np.linalg.norm(colour - np.array(names[name]))))


def _steadiness(pixels: NDArray[np.float32], behind: NDArray[np.bool_]) -> float:
    """PSNR from frame to frame over the pixels that show background in both."""
    both = behind[1:] & behind[:-1]
    change = ((pixels[1:] - pixels[:-1]) / 255)[both]
    return float(-10 * np.log10(max(np.square(change).mean(), _STEADIEST_MSE))) if change.size else 0.0


def _texture_velocity(pixels: NDArray[np.float32], behind: NDArray[np.bool_]) -> tuple[float, float]:
    """Velocity of the two waves of the texture that run along the axes, pixels per frame, (x, y)."""
    brightness = pixels[:, ::_STRIDE, ::_STRIDE].mean(axis=-1)
    behind = behind[:, ::_STRIDE, ::_STRIDE]
    basis = _wave_basis(*brightness.shape[1:])
    fitted = np.stack(
        [
            np.linalg.lstsq(basis[mask], frame[mask], rcond=None)[0]
            for frame, mask in zip(brightness, behind, strict=True)
        ]
    )  # [frames, 1 + 2 waves]
    _, height, width, _ = pixels.shape
    along_x, along_y = _wave_slope(fitted, WAVES.index((1, 0))), _wave_slope(fitted, WAVES.index((0, 1)))
    return along_x * width / (2 * np.pi), along_y * height / (2 * np.pi)


def _wave_basis(height: int, width: int) -> NDArray[np.float64]:
    """A constant, and cosine and sine of each wave of the texture, `[height, width, 1 + 2 waves]`."""
    y, x = np.mgrid[:height, :width] * (2 * np.pi / np.array([height, width]))[:, None, None]
    functions = [np.ones((height, width))]
    for waves_x, waves_y in WAVES:
        phase = waves_x * x + waves_y * y
        functions += [np.cos(phase), np.sin(phase)]
    return np.stack(functions, axis=-1)


def _wave_slope(fitted: NDArray[np.float64], wave: int) -> float:
    """Radians per frame by which a wave moves."""
    cosine, sine = fitted[:, 1 + 2 * wave], fitted[:, 2 + 2 * wave]
    # a cos(x) + b sin(x) = c cos(x - phase): the phase moves with the texture
    return slope(np.arctan2(sine, cosine), np.arange(len(fitted)))
