"""Computes planned iterations of a window, and forecasts the velocity of all chunks at the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile
from motioncache.forecast.watch import Watch
from motioncache.policies.policy import Policy
from motioncache.record import ForecastError, Phase, WindowShape


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastMemory:
    """`computed`: the chunk's last computed denoise steps, the latest first."""

    computed: tuple[int, ...] = ()


class ForecastCache(Policy):
    """Decisions for all chunks and CFG branches that are known before sampling begins.

    Args:
        planned: whether to compute, for each iteration of the window.
        profile: the window that it was made for.
        forecast: None where everything is computed.
        watch: sees the velocities that are computed.
    """

    def __init__(
        self,
        planned: Sequence[bool],
        profile: WindowProfile,
        forecast: Forecast | None,
        watch: Watch | None = None,
    ) -> None:
        self.planned = planned
        self.profile = profile
        self.history = 1 if forecast is None else forecast.order
        self._watch = watch
        self._coefficients = None if forecast is None else cache(forecast.coefficients)

    def computes_together(self, starts: Sequence[int]) -> bool:
        return all(self.planned[start] for start in starts)

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [self._decide(call, memory) for call, memory in zip(calls, memories, strict=True)]

    def _decide(self, call: Call, memory: Memory) -> Decision:
        memory = memory if isinstance(memory, ForecastMemory) else ForecastMemory()
        if self.computes(call) or not memory.computed or self._coefficients is None:
            return Decision(call=call, phase=Phase.forecast, due=True, memory=memory)
        coefficients = self._coefficients(call.step, memory.computed, call.branch)
        return Decision(call=call, phase=Phase.forecast, due=False, coefficients=coefficients, memory=memory)

    def remember(self, decision: Decision, hidden: torch.Tensor, window: WindowShape, predecessor: Memory) -> Memory:
        if not decision.due or not isinstance(decision.memory, ForecastMemory):
            return decision.memory
        return ForecastMemory(computed=(decision.call.step, *decision.memory.computed)[: self.history])

    def observe(
        self, decision: Decision, output: torch.Tensor, earlier: Sequence[torch.Tensor]
    ) -> ForecastError | None:
        if self._watch is None:
            return None
        computed = decision.memory.computed if isinstance(decision.memory, ForecastMemory) else ()
        return self._watch.observe(decision, computed, output, earlier)

    def computes(self, call: Call) -> bool:
        """Whether the call is planned to be computed."""
        return self.planned[call.iteration]
