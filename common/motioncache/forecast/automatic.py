"""Calibrations that a model's own videos give for nothing, and the folder that keeps them."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from motioncache.errors import ConfigError, MotionCacheError
from motioncache.forecast.calibration import Calibration, ModelIdentity, sensitivity_at
from motioncache.forecast.guided import Shares, measured_products
from motioncache.forecast.policy import ForecastCache
from motioncache.forecast.prediction import Array, end_sigmas
from motioncache.forecast.profile import WindowProfile
from motioncache.forecast.watch import Measurement

logger = logging.getLogger(__name__)

FOLDER = "MOTIONCACHE_CACHE"
"""The environment variable that names the folder; without it, it is `~/.cache/motioncache`."""

_KNOWN: WeakKeyDictionary[object, dict[str, Calibration]] = WeakKeyDictionary()
"""What this process has measured, by transformer: a cache that is enabled anew for each video measures it once."""

PRIOR_SIGMAS = (0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
PRIOR_SENSITIVITY = (106.0, 60.7, 33.5, 4.46, 3.61, 1.19, 0.358, 0.224, 0.157, 0.113, 0.0907, 0.108, 0.124, 0.141)
"""Sensitivity by the sigma where a step ends: the geometric mean of the two trained models, each divided by its own
mean over these levels; made by `python benchmarks/sensitivity_prior.py`."""


class AutomaticCalibrations:
    """Measures a model in the first window that it samples, and finds what was measured before.

    A calibration belongs to the weights, the schedule and the guidance scale. Two processes may measure the same one:
    each file is written whole and then moved into place, and the last one stays.
    """

    def __init__(self, transformer: object | None = None) -> None:
        """
        Args:
            transformer: the module that is measured; what is known of it stays known to this process, whoever asks. A
                file can't keep what was measured on weights that nothing tells from others.
        """
        self._known: dict[str, Calibration] = {} if transformer is None else _KNOWN.setdefault(transformer, {})

    def find(self, profile: WindowProfile, model: ModelIdentity) -> Calibration | None:
        """What was measured of this model on this schedule; None if nothing was, or if its file is damaged."""
        key = _key(profile, model)
        if key not in self._known and model.weights and (path := _path(key)).is_file():
            try:
                self._known[key] = Calibration.load(path)
            except ConfigError as error:
                logger.warning("%s; it is measured again", error)
        return self._known.get(key)

    def measuring(self, profile: WindowProfile, model: ModelIdentity, shares: Mapping[str, float]) -> ForecastCache:
        """A policy that computes the whole window and measures it.

        Raises:
            ConfigError: for a schedule that no calibration can be made of.
        """
        if len(profile.sigmas) < 2 or not all(a > b for a, b in pairwise(profile.sigmas)):
            raise ConfigError(
                "calibration: this schedule cannot be measured, for its sigmas do not fall from step to step; pass "
                "another num_inference_steps, or the file of a calibration"
            )

        def done(found: Array) -> None:
            self._add(_key(profile, model), measured(profile, model, found, shares))

        return ForecastCache((True,) * profile.iterations, profile, None, Measurement(profile, shares, done))

    def _add(self, key: str, calibration: Calibration) -> None:
        self._known[key] = calibration
        if not calibration.model.weights:  # nothing tells this model from others of its size
            return
        path = _path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            calibration.save(path)
        except (OSError, MotionCacheError) as error:
            logger.warning("the calibration is not kept for other processes: %s", error)


def measured(profile: WindowProfile, model: ModelIdentity, found: Array, shares: Shares) -> Calibration:
    """The calibration of a window's velocities, with the sensitivity of the trained models.

    Args:
        found: see `measured_products`.
    """
    sensitivity = sensitivity_at(end_sigmas(profile.sigmas), PRIOR_SIGMAS, np.array(PRIOR_SENSITIVITY))
    products, parts = measured_products(found, shares)
    return Calibration(model, profile.sigmas, products=products, sensitivity=sensitivity, parts=parts)


def _path(key: str) -> Path:
    folder = os.environ.get(FOLDER)
    return (Path(folder) if folder else Path.home() / ".cache" / "motioncache") / "calibrations" / f"{key}.json"


def _key(profile: WindowProfile, model: ModelIdentity) -> str:
    """Short hash of what a calibration belongs to."""
    schedule = [round(sigma, 6) for sigma in profile.sigmas]
    content = json.dumps([model.layers, model.width, model.weights, model.guidance, schedule])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
