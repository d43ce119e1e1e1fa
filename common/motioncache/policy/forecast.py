"""Computes the iterations of a plan, and forecasts the velocity of all chunks at the others."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from motioncache.config import ForecastAblationConfig, ForecastConfig, Schedule, Unit
from motioncache.forecast import Calibration, Forecast
from motioncache.grid import TokenGrid
from motioncache.plan import Course, even_plan, solve_plan
from motioncache.policy import Decision, Memory, Policy, Proposal, Request
from motioncache.trace import Phase

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastMemory:
    """`computed`: the chunk's last computed denoise steps, the latest first."""

    computed: tuple[int, ...] = ()


class ForecastCache(Policy):
    """Decisions for chunks and all CFG branches that are known before sampling begins.

    Args:
        plan: whether to compute, for each iteration of a window, or with `Unit.chunk` for each step of every chunk.
        levels: noise level of each denoise step of a chunk.
        forecast: None where everything is computed.
    """

    def __init__(
        self, plan: Sequence[bool], levels: Sequence[float], forecast: Forecast | None, *, unit: Unit = Unit.window
    ) -> None:
        self.plan = plan
        self.levels = levels
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
        if self.plan[place] or not computed or self._coefficients is None:
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


def plan_forecast(config: ForecastConfig, course: Course, *, presets: Path, size: tuple[int, int]) -> ForecastCache:
    """The policy for one window.

    Args:
        presets: the model's presets file.
        size: layers and width of the transformer.

    Raises:
        ConfigError: for a calibration that cannot be read, or a speed-up that cannot be reached.
    """
    budget = course.vanilla / config.target_speedup
    varied = config if isinstance(config, ForecastAblationConfig) else ForecastAblationConfig()
    if budget >= course.whole and not varied.skipped:
        return ForecastCache((True,) * course.iterations, course.levels, None)
    path = shipped_calibration(presets) if config.calibration is None else Path(config.calibration)
    calibration = Calibration.load(path)
    if (calibration.layers, calibration.width) != size:
        _warn_once(f"{path.name} was measured on {_size(calibration.layers, calibration.width)}, not {_size(*size)}")
    if len(course.levels) > len(calibration.levels):
        _warn_once(f"{path.name} was measured with {len(calibration.levels)} steps, not {len(course.levels)}")
    forecast = calibration.at(course.levels, config.order)
    return ForecastCache(_plan(varied, course, forecast, budget), course.levels, forecast, unit=varied.unit)


def _plan(config: ForecastAblationConfig, course: Course, forecast: Forecast, budget: float) -> tuple[bool, ...]:
    if config.skipped:
        return tuple(iteration not in config.skipped for iteration in range(course.iterations))
    decided = course if config.unit is Unit.window else course.of_one_chunk()
    if config.schedule is Schedule.even:
        return even_plan(decided, budget)
    return solve_plan(decided, forecast, budget)


@cache
def _warn_once(finding: str) -> None:
    logger.warning(
        "%s: the plan keeps its budget, but forecasts may be poor; run python -m motioncache_eval.calibrate and pass "
        "the file that it writes as calibration",
        finding,
    )


def _size(layers: int, width: int) -> str:
    return f"{layers} layers of width {width}"


def _memory(memory: Memory) -> ForecastMemory:
    return memory if isinstance(memory, ForecastMemory) else ForecastMemory()
