"""A calibration by hand, and a look at plans, for the tests of both models."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache.forecast.planner import Course
from motioncache.forecast.policy import ForecastCache, ForecastPlanner


@contextmanager
def courses() -> Iterator[list[tuple[Course, ForecastCache]]]:
    """What plans are made of, and the plans, window by window."""
    seen: list[tuple[Course, ForecastCache]] = []
    plan = ForecastPlanner.plan

    def noted(self: ForecastPlanner, course: Course, model: ModelIdentity) -> ForecastCache:
        made = plan(self, course, model)
        seen.append((course, made))
        return made

    with patch.object(ForecastPlanner, "plan", noted):
        yield seen


def write_calibration(folder: Path, *, layers: int, width: int, guidance: float | None = None) -> str:
    """Of velocities that turn by a right angle from noise to clean, in a model that carries early errors on."""
    levels = np.linspace(1.0, 0.02, 30)
    angle = levels * np.pi / 2
    products = np.cos(angle[:, None] - angle[None])
    path = folder / "calibration.json"
    model = ModelIdentity(layers, width, weights=(), guidance=guidance)
    Calibration(model, tuple(levels.tolist()), products=products, sensitivity=1 / (1.03 - levels)).save(path)
    return str(path)
