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
            takes a file beside the presets that was measured on this model, at this guidance scale and with as many
            steps or more, and `auto` where there is none.
        order: a velocity is forecast from so many that were computed; 1 repeats the last one, scaled; null takes 2, and
            1 at strong guidance with a calibration that does not tell what guidance adds.
        allow_foreign_calibration: take a file that was measured on another model, at another guidance scale or with
            fewer steps, which may forecast poorly.
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

    def order_at(self, guidance: float | None, *, in_parts: bool = False) -> int:
        """How many velocities a forecast is made from, at a scale of classifier-free guidance.

        Args:
            in_parts: whether the calibration has `parts`.
        """
        if self.order is not None:
            return self.order
        return 1 if is_strong(guidance) and not in_parts else 2

    def planner(self, presets: Path) -> "ForecastPlanner":
        """What makes the policy of each window, for a model with this presets file."""
        return ForecastPlanner(self, presets)


def is_strong(guidance: float | None) -> bool:
    """Whether a scale of classifier-free guidance is above `STRONG_GUIDANCE`."""
    return guidance is not None and guidance > STRONG_GUIDANCE


def shipped_calibration(presets: Path) -> Path:
    """The calibration beside a model's presets."""
    return presets.with_name("calibration.json")


def shipped_calibrations(presets: Path) -> list[Path]:
    """All calibrations beside a model's presets, if any; those after the first one are for other guidance scales."""
    first = shipped_calibration(presets)
    return [*filter(Path.is_file, [first]), *sorted(first.parent.glob("calibration-*.json"))]


class ForecastPlanner:
    """Makes the policy of each window.

    Args:
        presets: the model's presets file.

    Raises:
        ConfigError: for a calibration that cannot be read.
    """

    def __init__(self, config: ForecastConfig, presets: Path) -> None:
        self._config = config
        files, plans = config.calibration, config.target_speedup > 1
        self._named = None if files in (None, AUTO) else Calibration.load(Path(files))
        self._shipped = [Calibration.load(path) for path in shipped_calibrations(presets) if files is None and plans]
        self._automatic = AutomaticCalibrations()
        self._used: str | None = None
        self.calibration: Calibration | None = None

    def check_model(self, model: ModelIdentity, transformer: object | None = None) -> None:
        """Refuse a named file that was measured on another model, unless the config allows it.

        Args:
            transformer: see `AutomaticCalibrations`.

        Raises:
            ConfigError: says how the models differ, and how to make a calibration.
        """
        self._automatic = AutomaticCalibrations(transformer)
        if self._named is not None and not self._config.allow_foreign_calibration:
            self._require(self._named.model.differs(model), "on the shipped ones that cost up to 6 dB")

    def choose(self, model: ModelIdentity, steps: int) -> Calibration | None:
        """The file that serves the model at its guidance scale and this number of steps; None where it is measured.

        Raises:
            ConfigError: for a named file that does not serve; it says how to make one that does.
        """
        allowed = self._config.allow_foreign_calibration
        if self._named is not None:
            if not allowed:
                self._require(self._named.misses(model, steps), "another guidance cost the shipped model up to 2 dB")
            return self._named
        fitting = [one for one in self._shipped if one.model.differs(model) is None and not one.misses(model, steps)]
        return next(iter([*fitting, *(self._shipped if allowed else [])]), None)

    def _require(self, other: str | None, cost: str) -> None:
        """Refuse a named file that was measured on or with something else."""
        if other is not None:
            raise ConfigError(
                f"the calibration {self._config.calibration} was measured {other}: pass calibration=auto to measure "
                "this model in its first video, run motioncache calibrate for it and pass the file, or pass "
                f"allow_foreign_calibration=True to forecast with these numbers ({cost})"
            )

    @property
    def used(self) -> str | None:
        """What was forecast with, in words; None where everything is computed."""
        return self._used

    def plan(self, profile: WindowProfile, model: ModelIdentity, shares: Mapping[str, float]) -> ForecastCache:
        """The policy for one window of the model that `check_model` has seen.

        Warns once of a target that is not met.

        Args:
            shares: the factor of each CFG branch in the guided velocity.

        Raises:
            ConfigError: for a speed-up that cannot be reached, and see `choose`.
        """
        budget = profile.uncached_flops / self._config.target_speedup
        if budget >= profile.full_flops:
            return ForecastCache((True,) * profile.iterations, profile, None)
        file = self.choose(model, len(profile.sigmas))
        self.calibration = file or self._automatic.find(profile, model)
        self._used = self._in_words(file, model)
        if self.calibration is None:
            return self._automatic.measuring(profile, model, shares)
        order = self._config.order_at(model.guidance, in_parts=self.calibration.parts is not None)
        parted = shares if is_strong(model.guidance) else None  # elsewhere two parts have not been measured
        forecast = self.calibration.at(profile.sigmas, order, parted)
        return self._within(profile, forecast, budget, ErrorWatch(forecast, shares))

    def _in_words(self, file: Calibration | None, model: ModelIdentity) -> str:
        if self.calibration is None:
            return "nothing yet: a window was computed in full and measured, and those after it are planned"
        measured, steps = self.calibration.model, len(self.calibration.sigmas)
        guidance = "" if measured.guidance is None else f", guidance {measured.guidance:g}"
        name = f"the calibration {self._config.calibration}" if self._named is not None else "the shipped calibration"
        name = "what a window of this model said" if file is None else name
        of = "of another model: " if measured.differs(model) is not None else "of "
        return f"{name}, {of}depth {measured.layers}, width {measured.width}{guidance}, {steps} steps"

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


@cache
def _warn_once(finding: str) -> None:
    logger.warning(finding)
