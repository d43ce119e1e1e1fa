"""TeaCache: one decision for all chunks of a model call (arXiv 2411.19108), on chunks that come and go."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.field_types import require_range
from motioncache.policies.distance import DistanceConfig
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape


@dataclass(frozen=True, slots=True, kw_only=True)
class TeaCacheConfig(DistanceConfig):
    """TeaCache: all chunks of a window are computed or reused together; see `DistanceConfig` for the rest.

    Args:
        warmup: last iteration of a window, counted from 0, that is computed in full whatever the distance.
    """

    warmup: int = 4

    def __post_init__(self) -> None:
        DistanceConfig.__post_init__(self)
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeaMemory:
    """What TeaCache remembers, the same for all chunks of a window.

    Attributes:
        accumulated: distance since the window was last computed: 0 after the warm-up, then a float32 scalar where the
            distances are.
    """

    accumulated: torch.Tensor | float = 0.0


class TeaCache(Policy):
    """The window is due when the accumulated mean distance of its chunks reaches the threshold.

    The first iterations and the last one of a window are computed in full. A chunk at its first step has nothing to
    reuse: it is computed whatever the others do.

    Args:
        warmup: last iteration of a window, counted from 0, that is computed in full.
    """

    def __init__(self, *, threshold: float, warmup: int) -> None:
        self._threshold = threshold
        self._warmup = warmup

    history = 1

    def computes_together(self, starts: Sequence[int]) -> bool:
        """Only in synchronous sampling: a chunk at its first step is computed without the others."""
        return len(set(starts)) <= 1

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        started = [(c, m) for c, m in zip(calls, memories, strict=True) if isinstance(m, TeaMemory)]
        iteration = calls[0].iteration if calls else 0
        if not started or iteration <= self._warmup or iteration == window.iterations - 1:
            return [Decision(call=call, phase=Phase.warmup, due=True, memory=TeaMemory()) for call in calls]
        distances = torch.stack([torch.as_tensor(call.distance, dtype=torch.float32).mean() for call, _ in started])
        accumulated = started[0][1].accumulated + distances.mean()
        due = accumulated >= self._threshold
        memory = TeaMemory(accumulated=accumulated.masked_fill(due, 0.0))
        return [
            Decision(
                call=call,
                phase=Phase.chunk,
                due=due.expand(call.tokens) if isinstance(before, TeaMemory) else True,
                memory=memory,
            )
            for call, before in zip(calls, memories, strict=True)
        ]
