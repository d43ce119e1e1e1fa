"""MotionCache and TeaCache as the published MAGI-1 code runs them, faults included."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from motioncache.config import PolicyConfig
from motioncache.decision import Call, Decision, Memory
from motioncache.distance import relative_l1
from motioncache.errors import MotionCacheError
from motioncache.policies.policy import Policy
from motioncache.presets import Policies
from motioncache.record import Phase, WindowShape
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.cache.hook import MagiHook
from motioncache_magi.cache.motioncache import MagiMemory, MagiMotionCache, MagiMotionCacheConfig, restarted
from motioncache_magi.cache.reuse import EngineReuse
from motioncache_magi.cache.teacache import MagiTeaCacheConfig
from motioncache_magi.model.dit import to_patches
from motioncache_magi.model.forward import ChunkInput
from motioncache_magi.sampling.guidance import Pass, Velocities, deciding_branch
from motioncache_magi.sampling.kv_layout import NEARLY_CLEAN, PAST, TEXT
from motioncache_magi.sampling.reuse import Due
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMotionCacheConfig(MagiMotionCacheConfig):
    """MotionCache with the faults of its published code; see `MagiMotionCacheConfig` for the fields."""

    def create_policy(self, schedule: WindowSchedule) -> Policy:
        return PublishedMotionCache(self, schedule)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTeaCacheConfig(MagiTeaCacheConfig):
    """TeaCache with the faults of its published code, on distilled models; see `MagiTeaCacheConfig` for the fields."""


PUBLISHED: Policies = {
    "motioncache-published": PublishedMotionCacheConfig,
    "teacache-published": PublishedTeaCacheConfig,
}

WITH_PUBLISHED: Policies = {**MagiAdapter.policies, **PUBLISHED}


class PublishedAdapter(MagiAdapter):
    """Serves the policies of the product and the published ones."""

    policies: Policies = WITH_PUBLISHED

    def hook(self, pipeline: Any, config: PolicyConfig) -> MagiHook:
        published = isinstance(config, (PublishedMotionCacheConfig, PublishedTeaCacheConfig))
        return (PublishedHook if published else MagiHook)(pipeline, config, presets=self.presets())


class PublishedHook(MagiHook):
    """Makes samplers that follow the published loops."""

    def sampler(self) -> Callable[..., Sampler]:
        teacache = isinstance(self.config, PublishedTeaCacheConfig)
        return PublishedTeaCacheSampler if teacache else PublishedMotionCacheSampler

    def create_reuse(self, settings: Settings) -> EngineReuse:
        options = (self.engine, self.reuse_config, deciding_branch(settings.guidance))
        if not isinstance(self.config, PublishedTeaCacheConfig):
            return PublishedReuse(*options)
        if not settings.distilled:
            raise MotionCacheError("the published TeaCache serves distilled models only: pass MagiTeaCacheConfig")
        return PublishedTeaCacheReuse(*options)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMemory(MagiMemory):
    """`due`: the mask of the last step of the token phase, bool `[tokens]`."""

    due: torch.Tensor | None = None


class PublishedMotionCache(MagiMotionCache):
    """Differs in the vote, which comes after the reset, in the last step, and in the progress of `reuse_ratio`."""

    def decide_chunk(self, call: Call, memory: Memory, window: WindowShape) -> Decision:
        decision = super().decide_chunk(call, memory, window)
        repeats = decision.phase is Phase.token and self.ends_video(call)
        if repeats and isinstance(memory, PublishedMemory) and memory.due is not None:
            return replace(decision, due=memory.due, memory=memory)  # by the mask of the step before
        return decision

    def decide_tokens(self, call: Call, memory: MagiMemory, window: WindowShape) -> Decision:
        """Tokens that are computed by the vote alone keep what they have accumulated."""
        accumulated, due = self.accumulate(call, memory)
        voted = self.vote(due, window.grid)
        memory = replace(restarted(memory), token_distance=accumulated.masked_fill(due, 0.0))
        known = {field.name: getattr(memory, field.name) for field in fields(MagiMemory)}
        return Decision(call=call, phase=Phase.token, due=voted, memory=PublishedMemory(**known, due=voted))

    @property
    def last_step(self) -> int:
        """The last step of the whole video, which a chunk never comes near."""
        return self._schedule.total


class PublishedReuse(EngineReuse):
    """Can take a chunk for one that was computed in full, and record what was decided."""

    def advance_in_full(self, chunk: int, latents: torch.Tensor, velocity: torch.Tensor, length: float) -> torch.Tensor:
        """See `advance`; the velocity is that of all tokens."""
        decision = self._decisions[chunk]
        moved = self.move(replace(decision, due=True), latents, velocity, length)
        self.engine.commit(decision, moved)
        return moved


class PublishedMotionCacheSampler(Sampler):
    """Differs in what selected tokens see, and in which chunk the guidance of the nearly clean one ends up."""

    _reuse: PublishedReuse

    def _input(self, one: Pass, due: Due, tokens: torch.Tensor, step: Step) -> ChunkInput:
        """Selected tokens of any chunk see what the oldest one sees, and so not even their own chunk."""
        chunk_input = super()._input(one, due, tokens, step)
        if chunk_input.due is None or one.branch not in (TEXT, PAST):
            return chunk_input
        first, end = step.ranges[0]
        attended = slice(self._first_row(one.branch, first), self._first_row(one.branch, end))
        return replace(chunk_input, attended=attended)

    def _run(
        self, passes: Sequence[Pass], due: dict[int, Due], embedded: dict[int, torch.Tensor], step: Step
    ) -> Velocities:
        """The repetition of the nearly clean chunk runs even where that chunk itself does not."""
        repeated = [one for one in passes if one.branch == NEARLY_CLEAN]
        others = [one for one in passes if one.branch != NEARLY_CLEAN]
        velocities = super()._run(others, due, embedded, step)
        return velocities | super()._run(repeated, dict.fromkeys(due, True), embedded, step)

    def _advance(self, chunk: int, step: Step, due: Due, velocities: Velocities) -> None:
        """The repetition is blended into the oldest chunk that is computed, whichever that is, and all over it."""
        again = velocities.get((NEARLY_CLEAN, step.window.start))
        computed = [other for branch, other in velocities if branch == TEXT]
        if again is None or not computed or chunk != min(computed):
            without = {key: velocity for key, velocity in velocities.items() if key[0] != NEARLY_CLEAN}
            super()._advance(chunk, step, due, without)
            return
        whole = torch.zeros_like(again)
        whole[due if isinstance(due, torch.Tensor) else slice(None)] = velocities[TEXT, chunk]
        share = self._settings.guidance.nearly_clean_weight
        blended = share * whole + (1 - share) * again
        now = to_patches(self.latents[:, self._frames(chunk)])[None]
        t, end = self._step_times(chunk, step)
        self._write(chunk, self._reuse.advance_in_full(chunk, now, blended[None], end - t))


class PublishedTeaCacheReuse(PublishedReuse):
    """Takes the window for one tensor, whatever chunks it holds.

    When the window slides without growing, every chunk is compared with the one that was at its place before, and goes
    on with what that one has kept.
    """

    window_distance = 0.0
    partial = False
    """Whether the window has grown and is reused: then only the new chunk is computed."""

    def decide(self, step: Step, passes: Sequence[Pass], embedded: dict[int, torch.Tensor]) -> dict[int, Due]:
        before, now = sorted(self._features), list(step.window)
        grown = len(now) > len(before)
        if before and now:
            places = zip(now, before, strict=False) if grown else zip(now, before[-len(now) :], strict=True)
            pairs = [(embedded[chunk], self._features[other]) for chunk, other in places]
            ours, theirs = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])
            self.window_distance = float(relative_l1(ours, theirs))
        if before and len(before) == len(now) and before != now:
            for chunk in reversed(now):
                self._inherit(chunk, chunk - 1)
        due = super().decide(step, passes, embedded)
        denoised = [due[chunk] for chunk in now if chunk in due]
        self.partial = grown and denoised.count(True) == 1 and len(denoised) > 1
        return due

    def distance(self, chunk: int, features: torch.Tensor, step: Step) -> float | torch.Tensor:
        return self.window_distance

    def _inherit(self, chunk: int, source: int) -> None:
        """Give a chunk what another one has kept."""
        own, other = self.engine.state(TEXT, chunk), self.engine.state(TEXT, source)
        own.outputs, own.memory = other.outputs, other.memory

    def take_back(self, chunk: int, latents: torch.Tensor, earlier: torch.Tensor) -> None:
        """Remember the way back to earlier latents as the chunk's last output."""
        decision = self._decisions[chunk]
        self.engine.complete(replace(decision, due=True), latents, earlier)
        self.engine.commit(decision, earlier)


class PublishedTeaCacheSampler(Sampler):
    """The loop around `PublishedTeaCacheReuse`.

    When the window grows and is reused, only the new chunk is computed, and all others go back to where they were
    before the last step. If the nearly clean chunk is due for repetition at that step, the new chunk gets the velocity
    of the chunk before it.
    """

    _reuse: PublishedTeaCacheReuse

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._saved: dict[int, torch.Tensor] = {}

    def step(self, step: Step) -> None:
        super().step(step)
        schedule = self._settings.schedule
        if (step.index + 2) % (schedule.steps // schedule.window) == 0:
            self._saved = {chunk: self.latents[:, self._frames(chunk)].clone() for chunk in step.window}

    def _run(
        self, passes: Sequence[Pass], due: dict[int, Due], embedded: dict[int, torch.Tensor], step: Step
    ) -> Velocities:
        if not self._reuse.partial:
            return super()._run(passes, due, embedded, step)
        newest = step.window.stop - 1
        chunk = newest - 1 if any(one.branch == NEARLY_CLEAN for one in passes) else newest
        own = [one for one in passes if one.branch == TEXT and one.chunk == chunk]
        return {(TEXT, newest): super()._run(own, {chunk: True}, embedded, step)[TEXT, chunk]}

    def _advance(self, chunk: int, step: Step, due: Due, velocities: Velocities) -> None:
        if not self._reuse.partial or due is True:
            super()._advance(chunk, step, due, velocities)
            return
        frames, back = self._frames(chunk), self._saved[chunk]
        now, then = (to_patches(latents)[None] for latents in (self.latents[:, frames], back))
        self._reuse.take_back(chunk, now, then)
        self.latents[:, frames] = back
