"""Geometry of masks on a torus, a picture whose opposite edges meet."""

import numpy as np
from numpy.typing import NDArray


def grow(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """The mask `[frames, height, width]` and all pixels within `by` of it, in rows and columns."""
    for axis in (1, 2):
        mask = np.any([np.roll(mask, shift, axis) for shift in range(-by, by + 1)], axis=0)
    return mask


def squareness(mask: NDArray[np.bool_]) -> float:
    """E[x^2 y^2] / (E[x^2] E[y^2]) about the centre of a mask `[height, width]`.

    A square along the axes has 1, a disk 2/3.
    """
    height, width = mask.shape
    y_squared = _from_centre(mask.sum(axis=1), height) ** 2
    x_squared = _from_centre(mask.sum(axis=0), width) ** 2
    weight = mask / mask.sum()
    both = (weight * np.outer(y_squared, x_squared)).sum()
    return float(both / ((weight.sum(1) * y_squared).sum() * (weight.sum(0) * x_squared).sum()))


def velocity(masks: NDArray[np.bool_], time: NDArray[np.int64]) -> tuple[float, float]:
    """Velocity of the centre of masks `[frames, height, width]` in pixels per frame, (x, y).

    Args:
        time: frame number of each mask.
    """
    _, height, width = masks.shape
    x = slope(_centre_angle(masks.sum(axis=1)), time) * width / (2 * np.pi)
    y = slope(_centre_angle(masks.sum(axis=2)), time) * height / (2 * np.pi)
    return x, y


def slope(angle: NDArray[np.float64], time: NDArray[np.int64]) -> float:
    """Radians per frame by least squares; 0 for a single frame."""
    return float(np.polyfit(time, np.unwrap(angle), 1)[0]) if len(time) > 1 else 0.0


def _centre_angle(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Angle of the circular centre of counts over its last axis, the positions of a circle."""
    size = counts.shape[-1]
    return np.angle((counts * np.exp(2j * np.pi * np.arange(size) / size)).sum(axis=-1))


def _from_centre(counts: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Signed distance of every position of a circle from the circular centre of its counts, `[size]`."""
    centre = _centre_angle(counts) * size / (2 * np.pi)
    return (np.arange(size) - centre + size / 2) % size - size / 2
