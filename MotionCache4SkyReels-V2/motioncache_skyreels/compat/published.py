"""MotionCache and TeaCache as the published SkyReels-V2 code runs them, faults included.

MotionCache there gives a latent frame without a predecessor the lowest weight, compares a chunk with the last frames of
another window, leaves finished chunks with the keys and values of their last computed step, and modulates selected
tokens with the first rows of their chunk. TeaCache there computes chunks that are finished or have not started along
with the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from motioncache.config import PolicyConfig
from motioncache.decision import Call, ChunkState, Decision
from motioncache.engine import Engine
from motioncache.motion import motion_score, motion_weight
from motioncache.policies.motioncache import MotionCache, MotionCacheConfig, MotionMemory
from motioncache.policies.teacache import TeaCacheConfig
from motioncache.presets import Policies
from motioncache.record import Phase, WindowShape
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.packed import Pack
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.window import Frames, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMotionCacheConfig(MotionCacheConfig):
    """MotionCache with the faults of its published code; see `MotionCacheConfig` for the fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTeaCacheConfig(TeaCacheConfig):
    """TeaCache that computes all chunks of a window whenever anything is due; see `TeaCacheConfig` for the fields."""


PUBLISHED: Policies = {
    "motioncache-published": PublishedMotionCacheConfig,
    "teacache-published": PublishedTeaCacheConfig,
}

WITH_PUBLISHED: Policies = {**SkyReelsAdapter.policies, **PUBLISHED}


class PublishedAdapter(SkyReelsAdapter):
    """Serves the policies of the product and the published ones."""

    policies: Policies = WITH_PUBLISHED

    def opener_of(self, config: PolicyConfig) -> type[WindowOpener]:
        if isinstance(config, PublishedMotionCacheConfig):
            return PublishedMotionCacheOpener
        return PublishedTeaCacheOpener if isinstance(config, PublishedTeaCacheConfig) else super().opener_of(config)


class PublishedMotionCache(MotionCache):
    """Weighs a first frame without a predecessor as if nothing moved in it."""

    def _weigh(self, frames: torch.Tensor, before: torch.Tensor | None, *, first_chunk: bool) -> torch.Tensor:
        score = motion_score(frames, before, missing=torch.nan if first_chunk else 1.0)
        return motion_weight(score, self.config.normalisation, self.config.floor)


class PublishedEngine(Engine):
    """Hands the last frames of every chunk on to the next window of a video, and learns nothing of prefix chunks."""

    def __init__(self, policy: PublishedMotionCache) -> None:
        super().__init__(policy)
        self._last_frames: dict[tuple[str, int], MotionMemory] = {}

    def start_window(self, window: WindowShape) -> None:
        super().start_window(window)
        self._states = {place: ChunkState(memory=memory) for place, memory in self._last_frames.items()}

    def commit(self, decision: Decision, hidden: torch.Tensor) -> None:
        state = self.state(decision.call.branch, decision.call.chunk)
        handed_on = state.memory
        super().commit(decision, hidden)
        if decision.call.kv_only is Phase.prefix:
            state.memory = handed_on

    def end_window(self) -> None:
        for place, state in self._states.items():
            if isinstance(state.memory, MotionMemory):
                self._last_frames[place] = MotionMemory(last_frame=state.memory.last_frame)
        super().end_window()

    def drop(self) -> None:
        super().drop()
        self._last_frames = {}


class PublishedMotionCacheWindow(Window):
    """Modulates the selected tokens of a chunk with the chunk's first rows."""

    def _pack(self, decisions: Sequence[Decision], frames: Frames) -> Pack:
        pack = super()._pack(decisions, frames)
        if all(decision.due is True for decision in decisions):
            return pack
        rows = [
            self.grid.chunk_of_tokens(decision.call.chunk).start + torch.arange(decision.computed)
            for decision in decisions
        ]
        return replace(pack, frames=(torch.cat(rows) // self.grid.tokens_per_frame).to(pack.frames.device))


class PublishedMotionCacheOpener(WindowOpener):
    """Opens windows of the published MotionCache."""

    config: PublishedMotionCacheConfig
    window_class = PublishedMotionCacheWindow

    def create_engine(self) -> Engine:
        return PublishedEngine(PublishedMotionCache(self.config))

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        return without_finished(super().create_schedule(matrices, chunk_frames, fps))


def without_finished(schedule: Schedule) -> Schedule:
    """Leave finished chunks with the keys and values of their last computed step."""
    schedule.visits = [[v for v in visits if v.kv_only is not Phase.finished] for visits in schedule.visits]
    return schedule


class PublishedTeaCacheWindow(Window):
    """Computes the whole window where it is due, and otherwise only a chunk that has nothing to reuse yet."""

    def _decide(self, branches: tuple[str, ...], iteration: int) -> list[Decision]:
        decisions = [d for d in super()._decide(branches, iteration) if d.call.kv_only is not Phase.finished]
        if iteration > 0 and not any(decision.computed and decision.call.step > 0 for decision in decisions):
            return decisions
        handled = {(decision.call.branch, decision.call.chunk) for decision in decisions}
        idle = [
            self._idle(branch, chunk, iteration)
            for branch in branches
            for chunk in range(self.grid.chunks)
            if (branch, chunk) not in handled
        ]
        both = decisions + self._engine.decide(idle)
        return sorted(both, key=lambda decision: (branches.index(decision.call.branch), decision.call.chunk))

    def _idle(self, branch: str, chunk: int, iteration: int) -> Call:
        return Call(
            branch=branch,
            chunk=chunk,
            step=-1,
            iteration=iteration,
            tokens=self.grid.tokens_per_chunk,
            attended=self._attended(chunk).stop,
            kv_only=Phase.idle,
        )


class PublishedTeaCacheOpener(WindowOpener):
    """Opens windows of a TeaCache that knows no chunks."""

    window_class = PublishedTeaCacheWindow
