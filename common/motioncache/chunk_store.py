"""Keeps keys and values of whole chunks, and puts what a pass attends to together layer by layer.

Where everything that a pass attends to is computed in it, nothing is kept and nothing is copied: that is so as long as
no chunk has finished. Otherwise one layer's keys and values of one CFG branch lie side by side while they are used.
"""

from collections.abc import Iterator
from itertools import groupby

import torch

from motioncache.kept import Kept
from motioncache.kv_store import KeysValues, Pass, Segment


class ChunkStore:
    """A `KVStore` that keeps chunks in a form of their own.

    Args:
        kept: the form.
        keeps_all: keep every chunk that is computed; else only clean ones, which will do where a pass computes all
            chunks that denoise.
    """

    def __init__(self, kept: type[Kept], *, keeps_all: bool) -> None:
        self._kept = kept
        self._keeps_all = keeps_all
        self._chunks: dict[tuple[int, int], tuple[Kept, Kept]] = {}  # by layer and first row

    def exchange(self, layer: int, rows: Pass, key: torch.Tensor, value: torch.Tensor) -> Iterator[KeysValues]:
        """See `KVStore`."""
        branches = [list(group) for _, group in groupby(rows.segments, key=lambda segment: segment.branch)]
        for ahead in (layer, layer + 1):  # the next layer comes over while this one is computed
            self._fetch(ahead, branches)
        for segments in branches:
            first = segments[0].attended.start
            keys, values = (self._put_together(layer, i, segments, rows, x) for i, x in enumerate((key, value)))
            for segment in segments:
                if self._keeps_all or segment.clean:
                    chunk = slice(segment.chunk.start - first, segment.chunk.stop - first)
                    self._keep(layer, segment, _due(segment, rows), keys[:, chunk], values[:, chunk])
            for segment in segments:
                length = segment.attended.stop - first
                yield keys[:, :length], values[:, :length]
            del keys, values  # before those of the next branch are there

    def _fetch(self, layer: int, branches: list[list[Segment]]) -> None:
        """Begin to bring over what a pass will read of a layer."""
        for segments in branches:
            for start in _missing(segments):
                for kept in self._chunks.get((layer, start), ()):
                    kept.fetch()

    def _put_together(
        self, layer: int, place: int, segments: list[Segment], rows: Pass, fresh: torch.Tensor
    ) -> torch.Tensor:
        """Keys (place 0) or values (place 1) of a branch, up to the last row that one of its segments attends to."""
        missing = _missing(segments)
        if not missing:
            return fresh[:, segments[0].start : segments[-1].stop]
        first, last = segments[0].attended.start, max(segment.attended.stop for segment in segments)
        whole = fresh.new_empty(len(fresh), last - first, *fresh.shape[2:])
        for start in missing:
            if (layer, start) not in self._chunks:
                raise RuntimeError(f"keys and values from row {start} on are attended to, and were not kept")
            chunk = slice(start - first, start - first + _length(segments))
            self._chunks[layer, start][place].copy_to(whole[:, chunk])
        for segment in segments:
            chunk = whole[:, segment.chunk.start - first : segment.chunk.stop - first]
            due = _due(segment, rows)
            if due is None:
                chunk.copy_(fresh[:, segment.start : segment.stop])
            else:
                chunk.index_copy_(1, due, fresh[:, segment.start : segment.stop])
        return whole

    def _keep(
        self, layer: int, segment: Segment, due: torch.Tensor | None, key: torch.Tensor, value: torch.Tensor
    ) -> None:
        place = (layer, segment.chunk.start)
        if place not in self._chunks:
            self._chunks[place] = (self._kept(key), self._kept(value))
            return
        for kept, chunk in zip(self._chunks[place], (key, value), strict=True):
            kept.update(chunk, due)


def _missing(segments: list[Segment]) -> list[int]:
    """First rows of the chunks that the segments of a branch attend to, and that are not computed whole with them."""
    computed = {segment.chunk.start for segment in segments if _is_whole(segment)}
    last = max(segment.attended.stop for segment in segments)
    return [start for start in range(segments[0].attended.start, last, _length(segments)) if start not in computed]


def _is_whole(segment: Segment) -> bool:
    """Whether all rows of the chunk are in the pass."""
    return segment.stop - segment.start == segment.chunk.stop - segment.chunk.start


def _length(segments: list[Segment]) -> int:
    return segments[0].chunk.stop - segments[0].chunk.start


def _due(segment: Segment, rows: Pass) -> torch.Tensor | None:
    """The rows of a segment within its chunk, int64; None for all of them."""
    if _is_whole(segment):
        return None
    return rows.cache_rows[segment.start : segment.stop] - segment.chunk.start
