"""Makes the policy `forecast` of each window, for a budget of FLOPs."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError
from motioncache.field_types import require_range
from motioncache.forecast.automatic import AutomaticCalibrations
from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache.forecast.planner import BUDGET_TOLERANCE, plan_iterations
from motioncache.forecast.policy import ForecastCache
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile
from motioncache.forecast.watch import ErrorWatch

logger = logging.getLogger(__name__)

AUTO = "auto"
"""The name of a calibration that a model's own videos give."""

STRONG_GUIDANCE = 5.0
"""Above this scale the last change of the velocity is no guide to the next: sampling may swing from step to step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastConfig(PolicyConfig):
    """Forecast: iterations planned before sampling compute all chunks; at the others velocities are forecast.

    Args:
        target_speedup: FLOPs of the video without a cache over those that it takes.
        calibration: a file that `motioncache calibrate` wrote; `auto` measures the first window that is sampled; null
            takes the file beside the presets where it was measured on this model, and `auto` where it was not.
        order: a velocity is forecast from so many that were computed; 1 repeats the last one, scaled; null takes 1 at
            strong guidance, and 2 elsewhere.
        allow_foreign_calibration: take a file that was measured on another model, which may forecast poorly.
    """

    target_speedup: float = 2.0
    calibration: str | None = None
    order: int | None = None
    allow_foreign_calibration: bool = False

    def __post_init__(self) -> None:
        PolicyConfig.__post_init__(self)
        require_range("target_speedup", self.target_speedup, self.target_speedup >= 1, "1 or more")
        require_range("calibration", self.calibration, self.calibration != "", "null, auto, or a path")
        require_range("order", self.order, self.order in (None, 1, 2), "null, 1 or 2")

    def order_at(self, guidance: float | None) -> int:
        """How many velocities a forecast is made from, at a scale of classifier-free guidance."""
        if self.order is not None:
            return self.order
        return 1 if guidance is not None and guidance > STRONG_GUIDANCE else 2

    def planner(self, presets: Path) -> "ForecastPlanner":
        """What makes the policy of each window, for a model with this presets file."""
        return ForecastPlanner(self, presets)


def shipped_calibration(presets: Path) -> Path:
    """The calibration beside a model's presets."""
    return presets.with_name("calibration.json")


class ForecastPlanner:
    """Makes the policy of each window.

    Args:
        presets: the model's presets file.

    Raises:
        ConfigError: for a calibration that cannot be read.
    """

    def __init__(self, config: ForecastConfig, presets: Path) -> None:
        self._config = config
        self._name = f"the calibration {config.calibration}" if config.calibration else "the shipped calibration"
        self._foreign = False
        unknown = config.calibration is None and not shipped_calibration(presets).is_file()
        measures = unknown or config.calibration == AUTO
        self.calibration = None if measures else self._load(presets)
        self._automatic = AutomaticCalibrations() if measures and config.target_speedup > 1 else None
        self._measuring = False

    def _load(self, presets: Path) -> Calibration | None:
        config = self._config
        if config.calibration is not None:
            return Calibration.load(Path(config.calibration))
        return Calibration.load(shipped_calibration(presets)) if config.target_speedup > 1 else None

    def check_model(self, model: ModelIdentity, transformer: object | None = None) -> None:
        """Refuse a file that was measured on another model, unless the config allows it.

        The shipped file is left aside instead: then the model is measured.

        Args:
            transformer: see `AutomaticCalibrations`.

        Raises:
            ConfigError: says how the models differ, and how to make a calibration.
        """
        other = None if self.calibration is None else self.calibration.model.differs(model)
        self._foreign = other is not None
        if self._automatic is not None:
            self._automatic = AutomaticCalibrations(transformer)
        if other is None or self._config.allow_foreign_calibration:
            return
        if self._config.calibration is None:
            self.calibration, self._automatic = None, AutomaticCalibrations(transformer)
            return
        raise ConfigError(
            f"{self._name} was measured {other}: pass calibration=auto to measure this model in its first video, run "
            "motioncache calibrate for it and pass the file, or pass allow_foreign_calibration=True to forecast with "
            "numbers of another model (on the two shipped ones that cost between nothing and 6 dB)"
        )

    @property
    def is_automatic(self) -> bool:
        """Whether what is forecast with comes from the model's own videos."""
        return self._automatic is not None

    @property
    def used(self) -> str | None:
        """What was forecast with, in words; None where everything is computed."""
        if self._measuring:
            return "nothing yet: a window was computed in full and measured, and those after it are planned"
        if self.calibration is None:
            return None
        model, steps = self.calibration.model, len(self.calibration.sigmas)
        guidance = "" if model.guidance is None else f", guidance {model.guidance:g}"
        name = self._name if self._automatic is None else "what a window of this model said"
        of = "of another model: " if self._foreign and self._automatic is None else "of "
        return f"{name}, {of}depth {model.layers}, width {model.width}{guidance}, {steps} steps"

    def plan(self, profile: WindowProfile, model: ModelIdentity, shares: Mapping[str, float]) -> ForecastCache:
        """The policy for one window of the model that `check_model` has seen.

        Warns once of a calibration with another guidance or fewer steps, and of a target that is not met.

        Args:
            shares: the factor of each CFG branch in the guided velocity.

        Raises:
            ConfigError: for a speed-up that cannot be reached.
        """
        budget = profile.uncached_flops / self._config.target_speedup
        if budget >= profile.full_flops:
            return ForecastCache((True,) * profile.iterations, profile, None)
        if self._automatic is not None:
            self.calibration = self._automatic.find(profile, model)
            self._measuring = self.calibration is None
            if self._measuring:
                return self._automatic.measuring(profile, model, shares)
        elif self.calibration is not None:
            self._check(self.calibration, profile, model)
        assert self.calibration is not None
        forecast = self.calibration.at(profile.sigmas, self._config.order_at(model.guidance))
        return self._within(profile, forecast, budget, ErrorWatch(forecast, shares))

    def _within(self, profile: WindowProfile, forecast: Forecast, budget: float, watch: ErrorWatch) -> ForecastCache:
        """The policy that keeps a budget of FLOPs."""
        planned = plan_iterations(profile, forecast, budget)
        reached = profile.flops(planned) / budget
        if abs(reached - 1) > BUDGET_TOLERANCE:
            target = self._config.target_speedup
            _warn_once(
                f"target_speedup {target:g}: a window has too few iterations to meet it; the plan "
                f"reaches {target / reached:.3g}"
            )
        return ForecastCache(planned, profile, forecast, watch)

    def _check(self, calibration: Calibration, profile: WindowProfile, model: ModelIdentity) -> None:
        if calibration.model.guidance != model.guidance:
            guidance = f"with a guidance scale of {calibration.model.guidance}, not {model.guidance}"
            _warn_once(f"{self._name} was measured {guidance}, which cost the shipped model up to 2 dB: {_POOR}")
        measured, steps = len(calibration.sigmas), len(profile.sigmas)
        if steps > measured:
            _warn_once(f"{self._name} was measured with {measured} steps, not {steps}: {_POOR}")


_POOR = (
    "the plan meets its budget, but forecasts may be poor; pass calibration=auto, or "
    "a file that motioncache calibrate wrote"
)


@cache
def _warn_once(finding: str) -> None:
    logger.warning(finding)
