"""Reads off a video what its caption says: background, colours and shapes, how they move, and whether the camera does.

Meant for the scenes of `motioncache_eval.scenes`: shapes of different colours on a smooth background.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motioncache_eval.scenes import BACKGROUND_COLOURS, DIRECTIONS, OBJECT_COLOURS, WAVES

_FOREGROUND = 70.0
"""Distance in RGB from the background's median colour; the texture stays below 40."""

_EDGE = 2
"""Pixels: the soft edge of a shape mixes its colour with the background's, and is neither."""

_FEWEST_PIXELS = 30
"""Pixels inside the edge for a shape to count as seen in a frame; the smallest shape has about 140."""

_FEWEST_FRAMES = 0.25
"""Share of the frames for a shape to count as shown at all."""

_SQUARE = 0.83
"""Between the squareness of a disk, 0.67, and that of a square, 1."""

_STILL = 0.15
"""Pixels per frame under which a shape or a camera counts as resting."""

_STEADIEST_MSE = 1e-12

_STRIDE = 2
"""Every second row and column is enough for the texture's phase."""


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
        """Where the shape moves in the picture; None where it rests."""
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
    """Detect in uint8 `[frames, height, width, 3]`."""
    pixels = video.astype(np.float32)
    middle = np.median(pixels, axis=(0, 1, 2))
    foreground = np.linalg.norm(pixels - middle, axis=-1) > _FOREGROUND  # [frames, height, width]
    behind = ~_grow(foreground, _EDGE)
    return Detection(
        background=_nearest(middle, BACKGROUND_COLOURS),
        background_db=_steadiness(pixels, behind),
        camera=_texture_velocity(pixels, behind),
        shapes=_shapes(pixels, foreground),
    )


def direction_of(velocity: tuple[float, float]) -> str | None:
    """The nearest of the four directions; None for what rests."""
    x, y = velocity
    if max(abs(x), abs(y)) < _STILL:
        return None
    heading = (int(np.sign(x)), 0) if abs(x) > abs(y) else (0, int(np.sign(y)))
    return next(name for name, vector in DIRECTIONS.items() if vector == heading)


def _shapes(pixels: NDArray[np.float32], foreground: NDArray[np.bool_]) -> tuple[DetectedShape, ...]:
    """One shape for each object colour that is seen long enough."""
    inside = ~_grow(~foreground, _EDGE)
    colours = np.array(list(OBJECT_COLOURS.values()), np.float32)
    nearest = np.linalg.norm(pixels[..., None, :] - colours, axis=-1).argmin(axis=-1)  # [frames, height, width]
    found: list[DetectedShape] = []
    for i, name in enumerate(OBJECT_COLOURS):
        core = inside & (nearest == i)
        seen = core.sum(axis=(1, 2)) > _FEWEST_PIXELS
        if seen.mean() < _FEWEST_FRAMES:
            continue
        whole = _grow(core[seen], 2 * _EDGE) & foreground[seen] & ~(inside & (nearest != i))[seen]
        found.append(
            DetectedShape(
                colour=name,
                shown=float(seen.mean()),
                shape="circle" if np.median([_squareness(mask) for mask in whole]) < _SQUARE else "square",
                velocity=_velocity(whole, np.flatnonzero(seen)),
            )
        )
    return tuple(sorted(found, key=lambda shape: -shape.shown))


def _nearest(colour: NDArray[np.float32], names: dict[str, tuple[int, int, int]]) -> str:
    return min(names, key=lambda name: float(np.linalg.norm(colour - np.array(names[name]))))


def _steadiness(pixels: NDArray[np.float32], behind: NDArray[np.bool_]) -> float:
    both = behind[1:] & behind[:-1]
    change = ((pixels[1:] - pixels[:-1]) / 255)[both]
    return float(-10 * np.log10(max(np.square(change).mean(), _STEADIEST_MSE))) if change.size else 0.0


def _grow(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """The mask and all pixels within `by` of it, in rows and columns, on the torus."""
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


def _velocity(mask: NDArray[np.bool_], time: NDArray[np.int64]) -> tuple[float, float]:
    """Of the circular centre of masks `[frames, height, width]` that were seen at frames `time`."""
    x, y = (_slope(_phase(mask.sum(axis=axis)), time) * mask.shape[3 - axis] / (2 * np.pi) for axis in (1, 2))
    return x, y


def _phase(profile: NDArray[np.int64]) -> NDArray[np.float64]:
    """Angle of the circular centre of counts `[frames, size]`."""
    size = profile.shape[1]
    return np.angle((profile * np.exp(2j * np.pi * np.arange(size) / size)).sum(axis=1))


def _slope(angle: NDArray[np.float64], time: NDArray[np.int64]) -> float:
    """Radians per frame by least squares; 0 for a single frame."""
    return float(np.polyfit(time, np.unwrap(angle), 1)[0]) if len(time) > 1 else 0.0


def _texture_velocity(pixels: NDArray[np.float32], behind: NDArray[np.bool_]) -> tuple[float, float]:
    """Drift of the two waves of the texture that run along the axes, fitted to the brightness of the background."""
    brightness = pixels[:, ::_STRIDE, ::_STRIDE].mean(axis=-1)
    behind = behind[:, ::_STRIDE, ::_STRIDE]
    height, width = brightness.shape[1:]
    y, x = np.mgrid[:height, :width] * (2 * np.pi / np.array([height, width]))[:, None, None]
    waves = [np.exp(1j * (i * x + j * y)) for i, j in WAVES]
    basis = np.stack([np.ones((height, width)), *(part for wave in waves for part in (wave.real, wave.imag))], axis=-1)
    fitted = np.stack(
        [
            np.linalg.lstsq(basis[mask], frame[mask], rcond=None)[0]
            for frame, mask in zip(brightness, behind, strict=True)
        ]
    )  # [frames, 1 + 2 waves]
    time = np.arange(len(pixels))
    # a cos(x) + b sin(x) = c cos(x - phase): the phase moves with the texture
    along_x, along_y = (
        _slope(np.arctan2(fitted[:, 2 + 2 * i], fitted[:, 1 + 2 * i]), time) * _STRIDE * size / (2 * np.pi)
        for i, size in ((WAVES.index((1, 0)), width), (WAVES.index((0, 1)), height))
    )
    return along_x, along_y
