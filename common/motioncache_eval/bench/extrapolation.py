"""Peers of `forecast` that extrapolate what a chunk keeps along a line, as policies on the same engine.

Both decide for the window, as TeaCache does: a chunk's first step is computed whatever the others do.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.extras import require_extra
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape


@dataclass(frozen=True, slots=True, kw_only=True)
class LineMemory:
    """What is remembered of a chunk.

    Attributes:
        accumulated: distance since the window was last computed.
        computed: the chunk's last two computed denoise steps, the latest first.
    """

    accumulated: float = 0.0
    computed: tuple[int, ...] = ()


class Extrapolation(Policy):
    """Computes the window, or takes of each chunk what it kept last and a multiple of its last change."""

    history = 2

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        known = [memory if isinstance(memory, LineMemory) else LineMemory() for memory in memories]
        started = [(call, memory) for call, memory in zip(calls, known, strict=True) if memory.computed]
        accumulated = 0.0
        if started:
            moved = torch.stack([torch.as_tensor(call.distance, dtype=torch.float32).mean() for call, _ in started])
            accumulated = started[0][1].accumulated + float(moved.mean())
        full = not started or self.computes(calls[0].iteration, accumulated, window)
        return [
            self._one(call, replace(memory, accumulated=0.0 if full else accumulated), full)
            for call, memory in zip(calls, known, strict=True)
        ]

    def _one(self, call: Call, memory: LineMemory, full: bool) -> Decision:
        if full or not memory.computed:
            memory = replace(memory, computed=(call.step, *memory.computed)[: self.history])
            return Decision(call=call, phase=Phase.chunk, due=True, memory=memory)
        share = self.share(call.step, memory) if len(memory.computed) > 1 else 0.0
        coefficients = (1 + share, -share) if share else (1.0,)
        return Decision(call=call, phase=Phase.forecast, due=False, coefficients=coefficients, memory=memory)

    @abstractmethod
    def computes(self, iteration: int, accumulated: float, window: WindowShape) -> bool:
        """Whether the window is computed."""

    @abstractmethod
    def share(self, step: int, memory: LineMemory) -> float:
        """How much of the last change is added to what was kept last; `memory` has two computed steps."""


class Scope(Extrapolation):
    """Our reading of SCOPE (arXiv 2604.02979), whose code is not public: cache, predict or recompute.

    Three modes by the distance that has accumulated: below `threshold * cache_share` the last output is reused, below
    `threshold` it is predicted by a Taylor series of first order over the noise level, and from there on the window
    is computed. Its selective computation, chunks that are neither finished nor waiting, is what the engine does
    anyway. Its bound on errors: a prediction takes at most `most_change` times the last change.

    Args:
        warmup: last iteration of a window, counted from 0, that is computed whatever the distance.
        sigmas: noise level of each denoise step.
    """

    def __init__(
        self, *, threshold: float, cache_share: float, most_change: float, warmup: int, sigmas: Sequence[float]
    ) -> None:
        self._threshold, self._warmup = threshold, warmup
        self._cached_below = threshold * cache_share
        self._most_change = most_change
        self._sigmas = sigmas

    def computes(self, iteration: int, accumulated: float, window: WindowShape) -> bool:
        first_or_last = iteration <= self._warmup or iteration == window.iterations - 1
        return first_or_last or accumulated >= self._threshold

    def share(self, step: int, memory: LineMemory) -> float:
        if memory.accumulated < self._cached_below:
            return 0.0
        now, last, before = (self._sigmas[s] for s in (step, *memory.computed))
        return min((last - now) / (before - last), self._most_change)


class HiCache(Extrapolation):
    """The schedule and the Hermite basis of the package hicache-pp, of first order, as its defaults are.

    Args:
        interval: one iteration of so many is computed, after the first `first_enhance`.
    """

    def __init__(self, *, interval: int, first_enhance: int) -> None:
        require_extra("hicache_pp", "HiCache")
        self._scheduled = cache(lambda iterations: scheduled(iterations, interval, first_enhance))

    def computes(self, iteration: int, accumulated: float, window: WindowShape) -> bool:
        return self._scheduled(window.iterations)[iteration]

    def share(self, step: int, memory: LineMemory) -> float:
        from hicache_pp import scaled_hermite

        last, before = memory.computed
        distance = torch.tensor(float(step - last), dtype=torch.float64)
        return float(scaled_hermite(1, distance, SIGMA)) / (last - before)


SIGMA = 0.5
"""The contraction of the Hermite basis: hicache-pp's default."""


def scheduled(iterations: int, interval: int, first_enhance: int) -> tuple[bool, ...]:
    """Which iterations hicache-pp computes."""
    from hicache_pp import hicache_decide, hicache_init

    state = hicache_init(iterations, interval=interval, first_enhance=first_enhance)
    computed: list[bool] = []
    for step in range(iterations):
        state["step"] = step
        computed.append(hicache_decide(state) == "full")
        state["derivatives"] = {0: None}  # an anchor: the first iteration is always computed
    return tuple(computed)
