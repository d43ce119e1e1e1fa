"""Keys and values of clean chunks in a room of fixed size, as in FlowCache.

When a chunk has become clean and the room is full, one chunk's worth of keys is dropped from all that are clean, in
every layer and head for itself: those that are attended to least, and those that are most like the others.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import max_pool1d, normalize

from motioncache_magi.cache.policy import MagiFlowCacheConfig
from motioncache_magi.model.forward import ChunkInput
from motioncache_magi.sampling.kv_layout import PAST, TEXT, Layout
from motioncache_magi.sampling.passes import Work, branches_of
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.schedule import Step, WindowSchedule

_POOL = 7
"""Keys next to an important one are important too, so many at a time."""


def key_scores(query: torch.Tensor, key: torch.Tensor, importance: float) -> torch.Tensor:
    """How much each key is worth, `[G, m]`, float32.

    score = importance * a - (1 - importance) * r. a: attention to the key, of the query that has the highest logit
    in the group of a key head, as a mean over queries, raised to the highest of its neighbours. r: softmax over keys of
    the mean cosine between a key and all others.

    Args:
        query: `[n, H, d]`.
        key: `[m, G, d]`.
    """
    keys = key.float().transpose(0, 1)  # [G, m, d]
    queries = query.float().unflatten(1, (keys.shape[0], -1)).permute(1, 2, 0, 3)  # [G, H / G, n, d]
    logits = (queries @ keys[:, None].mT).amax(dim=1) / key.shape[-1] ** 0.5  # [G, n, m]
    attended = max_pool1d(logits.softmax(dim=-1).mean(dim=1), _POOL, stride=1, padding=_POOL // 2)
    directions = normalize(keys, dim=-1)
    alike = (directions @ directions.sum(dim=1)[:, :, None])[..., 0]  # the sum of a key's cosines, itself included
    redundant = ((alike - 1) / key.shape[0]).softmax(dim=-1)
    return importance * attended - (1 - importance) * redundant


class CompressedLayout(Layout):
    """Holds so many chunks' worth of clean keys, one chunk that has just become clean, and the window."""

    def __init__(self, schedule: WindowSchedule, branches: tuple[str, ...], past_chunks: int) -> None:
        self._past_chunks = past_chunks
        super().__init__(schedule, branches)

    def _capacity(self, schedule: WindowSchedule) -> int:
        return min(schedule.chunks, self._past_chunks + 1 + schedule.window)

    @property
    def oldest(self) -> int:
        """What is kept of the past lies where this chunk and those after it would."""
        return self._base

    def merge(self) -> None:
        """One chunk less lies in the past, and all that follow move up."""
        self._base += 1


class CompressedSampler(Sampler):
    """Lets every chunk see all that is kept of the past."""

    _reuse: MagiFlowCacheConfig
    _layout: CompressedLayout

    def __init__(self, *args: Any, reuse: MagiFlowCacheConfig, **options: Any) -> None:
        assert reuse.past_chunks is not None
        self._past_chunks = reuse.past_chunks
        self._scores: dict[int, torch.Tensor] = {}
        super().__init__(*args, reuse=reuse, **options)

    def _create_layout(self) -> CompressedLayout:
        settings = self._settings
        return CompressedLayout(settings.schedule, branches_of(settings.guidance), self._past_chunks)

    def step(self, step: Step) -> None:
        super().step(step)
        if step.refresh is not None and step.refresh + 1 - self._layout.oldest > self._past_chunks:
            self._compress(step.refresh + 1)

    def _works(self, step: Step) -> list[Work]:
        return [
            replace(work, seen=(self._layout.oldest, work.chunk + 1)) if work.branch in (TEXT, PAST) else work
            for work in super()._works(step)
        ]

    def _input(self, work: Work, due: bool | torch.Tensor, tokens: torch.Tensor, step: Step) -> ChunkInput:
        given = super()._input(work, due, tokens, step)
        watched = work.refresh and work.branch == self._deciding
        return replace(given, watch=self._watch) if watched else given

    def _watch(self, layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
        """Score the clean keys by what the last latent frame of the chunk that has just become clean looks at."""
        last = query[-self._grid.tokens_per_frame :]
        self._scores[layer] = key_scores(last, key[0], self._reuse.importance)

    def _forget(self, step: Step) -> None:
        """Nothing is forgotten for its age."""
        self._held = max(step.window.stop, (step.refresh or 0) + 1)

    def _compress(self, end: int) -> None:
        """Keep the best keys of the clean chunks before `end`, and move the window up."""
        per_chunk, layout = self._grid.tokens_per_chunk, self._layout
        kept = self._past_chunks * per_chunk
        for branch in self._with_past():
            start, stop = layout.row(branch, layout.oldest) * per_chunk, layout.row(branch, end) * per_chunk
            for layer, scores in self._scores.items():
                best = scores.topk(kept, dim=1).indices.sort(dim=1).values
                self._cache.keep(layer, slice(start, stop), best, to=start)
            if self._held > end:
                self._cache.copy(slice(stop, layout.row(branch, self._held) * per_chunk), stop - per_chunk)
        layout.merge()

    def _with_past(self) -> Sequence[str]:
        return [branch for branch in branches_of(self._settings.guidance) if branch in (TEXT, PAST)]
