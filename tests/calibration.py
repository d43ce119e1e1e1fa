"""A calibration by hand, for the tests of both models."""

from pathlib import Path

import numpy as np

from motioncache.forecast import Calibration


def write_calibration(folder: Path, *, layers: int, width: int) -> str:
    """Of velocities that turn by a right angle from noise to clean, in a model that carries early errors on."""
    levels = np.linspace(1.0, 0.02, 30)
    angle = levels * np.pi / 2
    products = np.cos(angle[:, None] - angle[None])
    path = folder / "calibration.json"
    Calibration(
        layers=layers, width=width, levels=tuple(levels.tolist()), products=products, sensitivity=1 / (1.03 - levels)
    ).save(path)
    return str(path)
