"""Writes a calibration by hand, and watches the planner, for the tests of both models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from motioncache.forecast.budget import ForecastPlanner
from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache.forecast.policy import ForecastCache
from motioncache.forecast.profile import WindowProfile


@contextmanager
def watched_planner() -> Iterator[list[tuple[WindowProfile, ForecastCache]]]:
    """Collect the profile and the policy of every window that is planned inside the block."""
    seen: list[tuple[WindowProfile, ForecastCache]] = []
    plan = ForecastPlanner.plan

    def noted(
        self: ForecastPlanner, profile: WindowProfile, model: ModelIdentity, shares: Mapping[str, float]
    ) -> ForecastCache:
        policy = plan(self, profile, model, shares)
        seen.append((profile, policy))
        return policy

    with patch.object(ForecastPlanner, "plan", noted):
        yield seen


def write_calibration(folder: Path, model: ModelIdentity, *, steps: int = 30) -> str:
    """Write a calibration of velocities that turn by a right angle from noise to clean; early errors grow most."""
    sigmas = np.linspace(1.0, 0.02, steps)
    angle = sigmas * np.pi / 2
    products = np.cos(angle[:, None] - angle[None])
    path = folder / "calibration.json"
    Calibration(model, tuple(sigmas.tolist()), products=products, sensitivity=1 / (1.03 - sigmas)).save(path)
    return str(path)
