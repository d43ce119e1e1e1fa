"""The published sampling loop where it is known to be wrong, for `reference_quirks`."""

from dataclasses import replace

import torch

from motioncache.engine import Task
from motioncache_magi.layout import NEARLY_CLEAN, TEXT
from motioncache_magi.sampler import Sampler, Velocities
from motioncache_magi.schedule import KeyRange, Step
from motioncache_magi.works import Work


class PublishedSampler(Sampler):
    """Differs in what selected tokens see, and in which chunk the guidance of the nearly clean one ends up."""

    def _seen(self, work: Work, step: Step, *, whole: bool) -> KeyRange:
        """Selected tokens of any chunk see what the oldest one sees, and so not even their own chunk."""
        return work.seen if whole else step.ranges[0]

    def _wanted(self, work: Work, due: bool | torch.Tensor) -> bool:
        """The repetition of the nearly clean chunk runs even where that chunk itself does not."""
        return due is not False or work.branch == NEARLY_CLEAN

    def _advance(self, task: Task, step: Step, velocities: Velocities) -> None:
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
        super()._advance(replace(task, decision=replace(task.decision, due=True)), step, blended)
        records = self._engine.trace.records
        records[-1] = replace(records[-1], computed=task.computed, due=task.due if task.due is not True else None)
