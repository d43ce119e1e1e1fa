"""Reads off a video of one shape what the caption says: background, colour of the shape, and how it moves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motioncache_eval.scenes import BACKGROUND_COLOURS, DIRECTIONS, OBJECT_COLOURS

_FOREGROUND = 70.0
"""Distance in RGB from the background's median colour; the texture stays below 40."""

_FEWEST_PIXELS = 20

_STILL = 0.15
"""Pixels per frame under which a shape counts as resting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What a video shows.

    Attributes:
        background: name of the nearest background colour.
        colour: name of the nearest object colour in most frames; None where no frame shows a shape.
        shown: share of the frames that show a shape of that colour.
        velocity: pixels per frame, (x, y), by least squares over the video on the torus.
        direction: where the shape moves; None where it rests.
    """

    background: str
    colour: str | None
    shown: float
    velocity: tuple[float, float]
    direction: str | None


def detect(video: NDArray[np.uint8]) -> Detection:
    """Detect in uint8 `[frames, height, width, 3]`; meant for scenes of one shape without a pan."""
    pixels = video.astype(np.float32)
    middle = np.median(pixels, axis=(0, 1, 2))
    background = _nearest(middle, BACKGROUND_COLOURS)
    mask = np.linalg.norm(pixels - middle, axis=-1) > _FOREGROUND  # [frames, height, width]
    colours = [
        _nearest(np.median(frame[m], axis=0), OBJECT_COLOURS)
        for frame, m in zip(pixels, mask, strict=True)
        if m.sum() > _FEWEST_PIXELS
    ]
    if not colours:
        return Detection(background=background, colour=None, shown=0.0, velocity=(0.0, 0.0), direction=None)
    colour = max(set(colours), key=colours.count)
    velocity = (_drift(mask.sum(axis=1)), _drift(mask.sum(axis=2)))
    return Detection(
        background=background,
        colour=colour,
        shown=colours.count(colour) / len(video),
        velocity=velocity,
        direction=_direction(velocity),
    )


def _nearest(colour: NDArray[np.float32], names: dict[str, tuple[int, int, int]]) -> str:
    return min(names, key=lambda name: float(np.linalg.norm(colour - np.array(names[name]))))


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
