"""Computes the iterations of a plan, and forecasts the velocity of all chunks at the others."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from motioncache.decision import Decision, Memory, Policy, Proposal, Request
from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache.forecast.planner import BUDGET_TOLERANCE, plan_evenly, plan_iterations
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile
from motioncache.grid import TokenGrid
from motioncache.presets import ForecastAblationConfig, ForecastConfig, Schedule, Unit
from motioncache.trace import Phase

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastMemory:
    """`computed`: the chunk's last computed denoise steps, the latest first."""

    computed: tuple[int, ...] = ()


class ForecastCache(Policy):
    """Decisions for chunks and all CFG branches that are known before sampling begins.

    Args:
        planned: whether to compute, for each iteration of a window, or with `Unit.chunk` for each step of every chunk.
        sigmas: noise level of each denoise step of a chunk.
        forecast: None where everything is computed.
    """

    def __init__(
        self, planned: Sequence[bool], sigmas: Sequence[float], forecast: Forecast | None, *, unit: Unit = Unit.window
    ) -> None:
        self.planned = planned
        self.sigmas = sigmas
        self._order = 1 if forecast is None else forecast.order
        self._coefficients = None if forecast is None else cache(forecast.coefficients)  # alike in all branches
        self._unit = unit

    @property
    def kept(self) -> int:
        return self._order

    def propose(self, requests: Sequence[Request]) -> list[Proposal]:
        return [self._propose(request) for request in requests]

    def _propose(self, request: Request) -> Proposal:
        computed = _memory(request.memory).computed
        place = request.iteration if self._unit is Unit.window else request.step
        if self.planned[place] or not computed or self._coefficients is None:
            return Proposal(phase=Phase.forecast, due=True)
        return Proposal(phase=Phase.forecast, due=False, coefficients=self._coefficients(request.step, computed))

    def remember(
        self, request: Request, proposal: Proposal, decision: Decision, hidden: torch.Tensor, predecessor: Memory
    ) -> Memory:
        computed = _memory(request.memory).computed
        return ForecastMemory(computed=(request.step, *computed)[: self.kept] if decision.due else computed)

    def adopt(self, hidden: torch.Tensor, grid: TokenGrid) -> Memory:
        return None

    def carry(self, memory: Memory) -> Memory:
        return None


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
        self._name = config.calibration or "the shipped calibration"
        path = shipped_calibration(presets) if config.calibration is None else Path(config.calibration)
        needed = config.target_speedup > 1 or config.calibration is not None
        self.calibration = Calibration.load(path) if needed else None

    def plan(self, profile: WindowProfile, model: ModelIdentity) -> ForecastCache:
        """The policy for one window.

        Warns once of a calibration that was made for another model or fewer steps, and of a target that is not met.

        Raises:
            ConfigError: for a speed-up that cannot be reached.
        """
        config, budget = self._config, profile.uncached_flops / self._config.target_speedup
        if budget >= profile.full_flops or self.calibration is None:
            return ForecastCache((True,) * profile.iterations, profile.sigmas, None)
        self._check(self.calibration, profile, model)
        forecast = self.calibration.at(profile.sigmas, config.order)
        varied = config if isinstance(config, ForecastAblationConfig) else ForecastAblationConfig()
        decided = profile if varied.unit is Unit.window else profile.of_one_chunk()
        even = varied.schedule is Schedule.even
        planned = plan_evenly(decided, budget) if even else plan_iterations(decided, forecast, budget)
        reached = decided.flops(planned) / budget
        if abs(reached - 1) > BUDGET_TOLERANCE and not even:
            _warn_once(
                f"target_speedup {config.target_speedup:g}: a window has too few iterations to meet it; the plan "
                f"reaches {config.target_speedup / reached:.3g}"
            )
        return ForecastCache(planned, profile.sigmas, forecast, unit=varied.unit)

    def _check(self, calibration: Calibration, profile: WindowProfile, model: ModelIdentity) -> None:
        other = calibration.model.differs(model)
        if other is not None:
            _warn_once(f"{self._name} was measured {other}: {_POOR}")
        measured, steps = len(calibration.sigmas), len(profile.sigmas)
        if steps > measured:
            _warn_once(f"{self._name} was measured with {measured} steps, not {steps}: {_POOR}")


_POOR = (
    "the plan meets its budget, but forecasts may be poor; run python -m motioncache_eval.calibrate and pass the file "
    "that it writes as calibration"
)


@cache
def _warn_once(finding: str) -> None:
    logger.warning(finding)


def _memory(memory: Memory) -> ForecastMemory:
    return memory if isinstance(memory, ForecastMemory) else ForecastMemory()
