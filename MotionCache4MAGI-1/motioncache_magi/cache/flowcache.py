"""FlowCache: whole chunks are reused, and the keys and values of clean chunks are compressed to a fixed number.

When a chunk has become clean and there are too many, one chunk's worth of keys is dropped from all that are clean, in
every layer and head for itself: those that are attended to least, and those that are most like the others.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import max_pool1d, normalize

from motioncache.field_types import require_range
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_magi.model.forward import ChunkInput
from motioncache_magi.sampling.guidance import Pass, branches_of, deciding_branch
from motioncache_magi.sampling.kv_layout import PAST, TEXT, KVLayout, MovingKVCache
from motioncache_magi.sampling.reuse import Due
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step

_POOL = 7
"""Keys next to an important one are important too, so many at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiFlowCacheConfig(MagiMotionCacheConfig):
    """FlowCache: whole chunks to the end, and keys and values of clean chunks compressed if that is asked for.

    Args:
        past_chunks: how many chunks' worth of keys and values of clean chunks are kept; every chunk sees all of them,
            whatever `noise2clean_kvrange` says. null keeps what is seen, uncompressed.
        importance: weight of how much a key is attended to; the rest is that of how unlike the others it is.
    """

    chunk_phase_steps: int | None = None
    past_chunks: int | None = None
    importance: float = 0.07

    def __post_init__(self) -> None:
        MagiMotionCacheConfig.__post_init__(self)
        past = self.past_chunks
        require_range("past_chunks", past, past is None or past >= 1, "null, or 1 or more")
        require_range("importance", self.importance, 0 <= self.importance <= 1, "between 0 and 1")
        require_range("past_chunks", past, past is None or self.refresh_clean, "null without refresh_clean")


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


class CompressedLayout(KVLayout):
    """Holds so many chunks' worth of clean keys, one chunk that has just become clean, and the window."""

    def __init__(self, schedule: WindowSchedule, branches: tuple[str, ...], past_chunks: int) -> None:
        self._past_chunks = past_chunks
        super().__init__(schedule, branches)

    def _capacity(self, schedule: WindowSchedule) -> int:
        return min(schedule.chunks, self._past_chunks + 1 + schedule.window)

    @property
    def oldest(self) -> int:
        """The chunk whose slot is the first one; the compressed past begins there."""
        return self._base

    def merge(self) -> None:
        """Move all that follow the past up by one slot."""
        self._base += 1


class CompressedSampler(Sampler):
    """Lets every chunk see the whole compressed past.

    Args:
        past_chunks: how many chunks' worth of clean keys are kept.
        importance: see `key_scores`.
    """

    _layout: CompressedLayout
    _cache: MovingKVCache

    def __init__(self, *args: Any, past_chunks: int, importance: float, **options: Any) -> None:
        self._past_chunks = past_chunks
        self._importance = importance
        self._scores: dict[int, torch.Tensor] = {}
        super().__init__(*args, **options)

    def _create_layout(self) -> CompressedLayout:
        return CompressedLayout(self._settings.schedule, self._kept, self._past_chunks)

    def step(self, step: Step) -> None:
        super().step(step)
        if step.refresh is not None and step.refresh + 1 - self._layout.oldest > self._past_chunks:
            self._compress(step.refresh + 1)

    def _passes(self, step: Step) -> list[Pass]:
        return [
            replace(one, seen=(self._layout.oldest, one.chunk + 1)) if one.branch in (TEXT, PAST) else one
            for one in super()._passes(step)
        ]

    def _input(self, one: Pass, due: Due, tokens: torch.Tensor, step: Step) -> ChunkInput:
        chunk_input = super()._input(one, due, tokens, step)
        watched = one.refresh and one.branch == deciding_branch(self._settings.guidance)
        return replace(chunk_input, watch=self._watch) if watched else chunk_input

    def _watch(self, layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
        """Score the clean keys by what the last latent frame of the chunk that has just become clean looks at."""
        last = query[-self._grid.tokens_per_frame :]
        self._scores[layer] = key_scores(last, key[0], self._importance)

    def _forget_unseen(self, step: Step) -> None:
        """Forget nothing: the past is compressed instead."""
        self._cached_end = max(step.window.stop, (step.refresh or 0) + 1)

    def _compress(self, end: int) -> None:
        """Keep the best keys of the clean chunks before `end`, and move the window up."""
        per_chunk, layout = self._grid.tokens_per_chunk, self._layout
        for branch in branches_of(self._settings.guidance):
            if branch not in (TEXT, PAST):
                continue
            start, stop = self._first_row(branch, layout.oldest), self._first_row(branch, end)
            for layer, scores in self._scores.items():
                best = scores.topk(self._past_chunks * per_chunk, dim=1).indices.sort(dim=1).values
                self._cache.keep(layer, slice(start, stop), best, to=start)
            if self._cached_end > end:
                self._cache.copy(slice(stop, self._first_row(branch, self._cached_end)), stop - per_chunk)
        layout.merge()
