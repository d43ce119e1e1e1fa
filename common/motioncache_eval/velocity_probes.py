"""Probes for calibrations: one measures a video's velocities, the other replaces one velocity by its forecast."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from motioncache.decision import ChunkState, Decision
from motioncache.engine import Engine
from motioncache.forecast.guided import two_parts
from motioncache.forecast.policy import ForecastCache
from motioncache.forecast.prediction import Array, velocity_products
from motioncache.forecast.watch import GuidedSum
from motioncache.probe import Probe


class GuidedVelocities(Probe):
    """Collects the guided velocity of every chunk at every denoise step of a video, in two parts where it has them.

    Args:
        guidance: the factor of each CFG branch in the guided velocity.

    Attributes:
        sigmas: noise level of each denoise step; empty before the first one.
        values_per_chunk: the number of values in a chunk's latents; 0 before the first denoise step.
    """

    def __init__(self, guidance: Mapping[str, float]) -> None:
        self.sigmas: Sequence[float] = ()
        self.values_per_chunk = 0
        self._sums = [GuidedSum(part) for part in two_parts(guidance) or (guidance,)]
        self._velocities: dict[int, dict[tuple[int, int], torch.Tensor]] = defaultdict(dict)  # by chunk; part and step
        self._engine: Engine | None = None

    def attach(self, hook: Any) -> None:
        """Watch the video that is sampled next; `hook` is that of the pipeline's cache."""
        self._engine = hook.engine
        hook.engine.probe = self

    def committed(self, decision: Decision, state: ChunkState) -> None:
        call = decision.call
        if call.kv_only is not None or not state.outputs:
            return
        assert self._engine is not None
        assert isinstance(self._engine.policy, ForecastCache)
        self.sigmas = self._engine.policy.profile.sigmas
        velocities, velocity = self._velocities[call.chunk], state.outputs[0].double().cpu().flatten()
        for part, sums in enumerate(self._sums):
            total = sums.add(call, velocity)
            if total is not None:
                velocities[part, call.step] = total
        self.values_per_chunk = velocity.numel()

    def products(self) -> dict[int, Array]:
        """By chunk, the mean products of its velocities at any two steps, see `measured_products`."""
        products: dict[int, Array] = {}
        for chunk, velocities in self._velocities.items():
            stacked = torch.stack([velocities[place] for place in sorted(velocities)])  # [parts x steps, values]
            products[chunk] = velocity_products(stacked.numpy())
        return products


class OneForecast(Probe):
    """Replaces one chunk's velocity at one step by a forecast, in a video of which everything is computed.

    Args:
        earlier: the steps that the forecast is made from, the latest first.
        coefficients: the factors of their velocities.
    """

    def __init__(self, chunk: int, step: int, earlier: Sequence[int], coefficients: Sequence[float]) -> None:
        self._chunk, self._step, self._earlier, self._coefficients = chunk, step, earlier, coefficients
        self._velocities: dict[tuple[str, int], torch.Tensor] = {}

    def attach(self, hook: Any) -> None:
        """Take part in the video that is sampled next; `hook` is that of the pipeline's cache."""
        hook.engine.probe = self

    def computed(self, decision: Decision, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        call = decision.call
        if call.kv_only is not None or call.chunk != self._chunk:
            return after
        if call.step in self._earlier:
            self._velocities[call.branch, call.step] = after - before
        if call.step != self._step:
            return after
        velocities = [self._velocities[call.branch, step] for step in self._earlier]
        return before + sum(c * v for c, v in zip(self._coefficients, velocities, strict=True))
