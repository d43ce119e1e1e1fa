"""The policy `forecast` without some of its ingredients, to measure what each of them is worth."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from motioncache.decision import Call
from motioncache.forecast.budget import ForecastConfig, ForecastPlanner
from motioncache.forecast.planner import plan_evenly, plan_iterations
from motioncache.forecast.policy import ForecastCache
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile
from motioncache.forecast.watch import ErrorWatch
from motioncache.presets import Policies


class Spacing(Enum):
    """Which iterations of a budget are computed."""

    planned = "planned"
    """Those that keep the forecasts' expected error lowest."""
    even = "even"
    """Evenly spread ones."""


class Unit(Enum):
    """What a decision is made for."""

    window = "window"
    chunk = "chunk"
    """Each chunk by its own denoise step, whatever the others do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastAblationConfig(ForecastConfig):
    """`forecast` without some of its ingredients.

    Args:
        spacing: `planned` as in `forecast`, or `even`.
        unit: `window` as in `forecast`, or `chunk`.
    """

    spacing: Spacing = Spacing.planned
    unit: Unit = Unit.window

    def planner(self, presets: Path) -> ForecastPlanner:
        return AblationPlanner(self, presets)


ABLATION: Policies = {"forecast-ablation": ForecastAblationConfig}
"""What a benchmark may choose besides the policies of a model."""


class PerChunk(ForecastCache):
    """Decides for each chunk by its own denoise step."""

    def computes(self, call: Call) -> bool:
        return self.planned[call.step]


class AblationPlanner(ForecastPlanner):
    """Plans evenly, or for a chunk by itself, where the config says so."""

    def __init__(self, config: ForecastAblationConfig, presets: Path) -> None:
        super().__init__(config, presets)
        self._even = config.spacing is Spacing.even
        self._per_chunk = config.unit is Unit.chunk

    def _within(self, profile: WindowProfile, forecast: Forecast, budget: float, watch: ErrorWatch) -> ForecastCache:
        if not self._even and not self._per_chunk:
            return super()._within(profile, forecast, budget, watch)
        decided = profile.of_one_chunk() if self._per_chunk else profile
        planned = plan_evenly(decided, budget) if self._even else plan_iterations(decided, forecast, budget)
        return (PerChunk if self._per_chunk else ForecastCache)(planned, profile, forecast, watch)
