"""The published sampling loops where they are known to be wrong, for `reference_quirks`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from motioncache.distance import relative_l1
from motioncache.engine import Task
from motioncache.errors import MotionCacheError
from motioncache_magi.cache.compress import CompressedSampler
from motioncache_magi.cache.policy import MagiFlowCacheConfig, MagiReuseConfig, MagiTeaCacheConfig
from motioncache_magi.model.dit import to_patches
from motioncache_magi.sampling.kv_layout import NEARLY_CLEAN, TEXT
from motioncache_magi.sampling.passes import Work
from motioncache_magi.sampling.sampler import Sampler, Velocities
from motioncache_magi.sampling.schedule import KeyRange, Step


class PublishedSampler(Sampler):
    """Differs in what selected tokens see, and in which chunk the guidance of the nearly clean one ends up."""

    def _seen(self, work: Work, step: Step, *, whole: bool) -> KeyRange:
        """Selected tokens of any chunk see what the oldest one sees, and so not even their own chunk."""
        return work.seen if whole else step.ranges[0]

    def _wanted(self, work: Work, due: bool | torch.Tensor) -> bool:
        """The repetition of the nearly clean chunk runs even where that chunk itself does not."""
        return due is not False or work.branch == NEARLY_CLEAN

    def _advance(self, task: Task, step: Step, velocities: Velocities, *, recorded: Task | None = None) -> None:
        """The repetition is blended into the oldest chunk that is computed, whichever that is, and all over it."""
        oldest, chunk = step.window.start, task.work.chunk
        again = velocities.get((NEARLY_CLEAN, oldest))
        computed = [other for branch, other in velocities if branch == TEXT]
        if again is None or not computed or chunk != min(computed):
            without = {key: velocity for key, velocity in velocities.items() if key[0] != NEARLY_CLEAN}
            super()._advance(task, step, without)
            return
        whole = torch.zeros_like(again)
        whole[task.indices()] = velocities[TEXT, chunk]
        blended = {(TEXT, chunk): whole, (NEARLY_CLEAN, chunk): again}
        super()._advance(_computed(task), step, blended, recorded=task)


class PublishedTeaCacheSampler(Sampler):
    """Takes the window for one tensor, whatever chunks it holds; distilled models only.

    When the window slides without growing, every chunk is compared with the one that was at its place before, and goes
    on with what that one has kept. When it grows and is reused, only the new chunk is computed, and all others go back
    to where they were before the last step. If the nearly clean chunk is due for repetition at that step, the new chunk
    gets the velocity of the chunk before it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if not self._settings.distilled:
            raise MotionCacheError("the published TeaCache serves distilled models only: leave reference_quirks out")
        self._window_distance = 0.0
        self._partial = False
        self._saved: dict[int, torch.Tensor] = {}

    def step(self, step: Step) -> None:
        super().step(step)
        schedule = self._settings.schedule
        if (step.index + 2) % (schedule.steps // schedule.window) == 0:
            self._saved = {chunk: self.latents[:, self._frames(chunk)].clone() for chunk in step.window}

    def _plan(self, step: Step, works: Sequence[Work], embedded: dict[int, torch.Tensor]) -> list[Task]:
        before, now = sorted(self._features), list(step.window)
        grown = len(now) > len(before)
        if before and now:
            places = zip(now, before, strict=False) if grown else zip(now, before[-len(now) :], strict=True)
            pairs = [(embedded[chunk], self._features[other]) for chunk, other in places]
            ours, theirs = (torch.cat(features) for features in zip(*pairs, strict=True))
            self._window_distance = float(relative_l1(ours, theirs))
        if before and len(before) == len(now) and before != now:
            for chunk in reversed(now):
                self._engine.inherit(TEXT, chunk, chunk - 1)
        tasks = super()._plan(step, works, embedded)
        due = [task.due for task in tasks if task.work.kv_only is None]
        self._partial = grown and due.count(True) == 1 and len(due) > 1
        return tasks

    def _distance(self, chunk: int, features: torch.Tensor, step: Step) -> float | torch.Tensor:
        return self._window_distance

    def _run(
        self, works: Sequence[Work], tasks: Sequence[Task], embedded: dict[int, torch.Tensor], step: Step
    ) -> Velocities:
        if not self._partial:
            return super()._run(works, tasks, embedded, step)
        newest = step.window.stop - 1
        chunk = newest - 1 if any(work.branch == NEARLY_CLEAN for work in works) else newest
        alone = [_computed(task) for task in tasks if task.work.chunk == chunk]
        own = [work for work in works if work.branch == TEXT and work.chunk == chunk]
        return {(TEXT, newest): super()._run(own, alone, embedded, step)[TEXT, chunk]}

    def _advance(self, task: Task, step: Step, velocities: Velocities, *, recorded: Task | None = None) -> None:
        if not self._partial or task.due is True:
            super()._advance(task, step, velocities, recorded=recorded)
            return
        frames, back = self._frames(task.work.chunk), self._saved[task.work.chunk]
        now, then = (to_patches(latents)[None] for latents in (self.latents[:, frames], back))
        self._engine.commit(_computed(task), now, then, recorded=task)
        self.latents[:, frames] = back


def _computed(task: Task) -> Task:
    """The task as if all of its chunk were due."""
    return replace(task, decision=replace(task.decision, due=True))


def sampler_of(reuse: MagiReuseConfig | None) -> type[Sampler]:
    """The sampling loop that a policy asks for."""
    if isinstance(reuse, MagiFlowCacheConfig) and reuse.past_chunks is not None:
        return CompressedSampler
    if reuse is None or not reuse.reference_quirks:
        return Sampler
    return PublishedTeaCacheSampler if isinstance(reuse, MagiTeaCacheConfig) else PublishedSampler
