"""How a cache takes part in sampling: the engine decides for one branch of guidance, and the others share it."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from motioncache.decision import Call, Decision
from motioncache.distance import relative_l1
from motioncache.engine import Engine
from motioncache.errors import MotionCacheError
from motioncache.grid import TokenGrid
from motioncache.record import Phase, WindowShape
from motioncache_magi.cache.config import MagiReuseConfig, Output
from motioncache_magi.sampling.guidance import Pass
from motioncache_magi.sampling.kv_layout import NEARLY_CLEAN
from motioncache_magi.sampling.reuse import Due, Reuse
from motioncache_magi.sampling.step import Step


class EngineReuse(Reuse):
    """Lets an engine decide, and supply the update of the tokens that are not computed.

    Args:
        deciding: the branch of guidance that the engine decides for.
        keeps_active: see `Reuse`.
    """

    def __init__(self, engine: Engine, config: MagiReuseConfig, deciding: str, *, keeps_active: bool = True) -> None:
        self.engine = engine
        self._keeps_active = keeps_active
        self._config = config
        self.deciding = deciding
        self._features: dict[int, torch.Tensor] = {}
        self._decisions: dict[int, Decision] = {}

    @property
    def keeps_active(self) -> bool:
        return self._keeps_active

    def start(self, grid: TokenGrid, iterations: int, branches: tuple[str, ...]) -> None:
        self.engine.start_video()
        self.engine.start_window(WindowShape(grid=grid, iterations=iterations, branches=branches, causal=True))

    def select(self, step: Step, passes: list[Pass]) -> list[Pass]:
        refresh = self._config.refresh_clean or step.index < 0  # a prefix chunk is computed for nothing else
        return [
            one
            for one in passes
            if (refresh or not one.refresh) and (self._config.nearly_clean or one.branch != NEARLY_CLEAN)
        ]

    def decide(self, step: Step, passes: Sequence[Pass], embedded: dict[int, torch.Tensor]) -> dict[int, Due]:
        if self.engine.is_idle:
            raise MotionCacheError(
                "the cache was disabled while this video was being sampled, and what it kept is gone: finish or close "
                "a stream before disable_cache"
            )
        calls = [self._call(one, step, embedded) for one in passes if one.branch == self.deciding]
        if self._config.measures:
            self._features = {chunk: embedded[chunk] for chunk in step.window}
        self._decisions = {decision.call.chunk: decision for decision in self.engine.decide(calls)}
        return {chunk: _due(decision, embedded[chunk].device) for chunk, decision in self._decisions.items()}

    def _call(self, one: Pass, step: Step, embedded: dict[int, torch.Tensor]) -> Call:
        tokens = self.engine.window.grid.tokens_per_chunk
        kv_only = (Phase.prefix if step.index < 0 else Phase.finished) if one.refresh else None
        return Call(
            branch=one.branch,
            chunk=one.chunk,
            step=-1 if one.refresh else step.counts[one.chunk - step.window.start],
            iteration=max(step.index, 0),
            tokens=tokens,
            attended=one.chunks_seen * tokens,
            distance=0.0 if one.refresh else self.distance(one.chunk, embedded[one.chunk], step),
            kv_only=kv_only,
        )

    def distance(self, chunk: int, features: torch.Tensor, step: Step) -> float | torch.Tensor:
        """How far the chunk's embedded latents moved since the last step: a scalar, or `[tokens]`."""
        before = self._features.get(chunk)
        if before is None:
            return 0.0
        by_token = self._config.measures_tokens(step.counts[chunk - step.window.start])
        return relative_l1(features, before, keep=(0,) if by_token else ())

    def advance(self, chunk: int, latents: torch.Tensor, velocity: torch.Tensor, length: float) -> torch.Tensor:
        decision = self._decisions[chunk]
        moved = self.move(decision, latents, velocity, length)
        self.engine.commit(decision, moved)
        return moved

    def move(self, decision: Decision, latents: torch.Tensor, velocity: torch.Tensor, length: float) -> torch.Tensor:
        """The latents after the step: due tokens by their velocity, the others by what they have kept."""
        if self._config.output is Output.velocity:
            return latents + self.engine.complete(decision, torch.zeros_like(latents), velocity) * length
        start = latents if decision.due is True else latents[:, decision.indices_on(latents.device)]
        return self.engine.complete(decision, latents, start + velocity * length)

    def refreshed(self, chunk: int, latents: torch.Tensor) -> None:
        decision = self._decisions[chunk]
        self.engine.commit(decision, self.engine.complete(decision, latents, latents))

    def end_step(self, passes: Sequence[Pass]) -> None:
        """Record what the branches beside the deciding one computed."""
        for one in passes:
            decision = self._decisions[one.chunk]
            if one.branch != self.deciding and decision.due is not False:
                self.engine.record(self._shared(decision, one))

    def _shared(self, decision: Decision, one: Pass) -> Decision:
        """The decision as another branch has carried it out; the indices are recorded once."""
        call = decision.call
        attended = one.chunks_seen * call.tokens
        computed = call.tokens if one.branch == NEARLY_CLEAN else decision.computed
        return replace(
            decision,
            call=replace(call, branch=one.branch, attended=attended),
            phase=call.kv_only or Phase.guidance,
            due=True if computed == call.tokens else decision.due,
        )

    def end(self) -> None:
        self.engine.drop()


def _due(decision: Decision, device: torch.device) -> Due:
    return decision.due if isinstance(decision.due, bool) else decision.indices_on(device)
