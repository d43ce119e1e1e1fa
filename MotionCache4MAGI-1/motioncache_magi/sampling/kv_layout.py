"""Where the keys and values of each chunk lie in the KV cache, counted in chunks."""

from collections.abc import Iterator, Sequence

import torch

from motioncache.kv_cache import KVCache
from motioncache_magi.sampling.schedule import WindowSchedule

TEXT, PAST, ALONE, NEARLY_CLEAN = "text", "past", "alone", "nearly clean"
"""Branches: with text and past; with the past alone; with neither; and the oldest chunk again, without its past."""


Place = tuple[str, int]
"""A branch and a chunk."""

Move = tuple[slice, int]
"""Rows, and the first row that they move to."""


class MovingKVCache(KVCache):
    """Keys and values of all layers, whose rows move up as the window slides."""

    def begin(self, passes: object, due: object, first_row: object) -> None:
        """Begin a step: all that it sees is there already."""

    def end(self) -> None:
        """All layers of a step have been computed."""

    def slide(self, moves: Sequence[Move], oldest: int, window: range) -> None:
        """Move rows up over those that are no longer seen.

        Args:
            oldest: the first chunk that is seen.
            window: the chunks that denoise.
        """
        for move in moves:
            self.copy(*move)

    def share(self, source: Place, to: Place, rows: Move) -> None:
        """Copy a chunk of one branch to another branch."""
        self.copy(*rows)

    def keep(self, layer: int, rows: slice, chosen: torch.Tensor, to: int) -> None:
        """Copy some of a range of rows, others for each head, to the rows from `to` on.

        Args:
            chosen: within the range, int64 `[heads, n]`.
        """
        stored = self._buffer[layer, :, :, rows]  # [2, batch, rows, heads, head_dim]
        index = chosen.T[None, None, :, :, None].expand(*stored.shape[:2], -1, -1, stored.shape[-1])
        self._buffer[layer, :, :, to : to + chosen.shape[1]] = stored.gather(2, index)

    def copy(self, source: slice, to: int) -> None:
        """Copy a range of rows of every layer to the rows from `to` on; the two may overlap if it moves up.

        Pieces that are no longer than the way they go do not overlap, so that nothing is cloned.
        """
        step = abs(source.start - to)
        for start in range(source.start, source.stop, step):
            rows, new = slice(start, min(start + step, source.stop)), start - source.start + to
            self._buffer[:, :, :, new : new + rows.stop - start] = self._buffer[:, :, :, rows]


class KVLayout:
    """A slot of the KV cache holds one chunk of one branch.

    Branches that see the past hold all chunks that are still seen, side by side; they move up as the window slides. A
    branch that does not see the past holds each chunk of the window by itself.

    Args:
        branches: those whose keys and values are kept from step to step.
    """

    def __init__(self, schedule: WindowSchedule, branches: tuple[str, ...]) -> None:
        self._oldest = schedule.oldest_seen()
        self._base = 0
        self._window = schedule.window
        capacity = self._capacity(schedule)
        sizes = {TEXT: capacity, PAST: capacity, ALONE: schedule.window}
        self._first: dict[str, int] = {}
        self.slots = 0
        for branch in branches:
            self._first[branch] = self.slots
            self.slots += sizes[branch]

    def _capacity(self, schedule: WindowSchedule) -> int:
        """Chunks that a branch with a past holds at most."""
        steps = [*schedule.prefix_steps(), *schedule]
        return max(max(s.window.stop, (s.refresh or 0) + 1) - self._oldest[s.index] for s in steps)

    def slot(self, branch: str, chunk: int) -> int:
        """The slot of a chunk in a branch."""
        return self._first[branch] + (chunk % self._window if branch == ALONE else chunk - self._base)

    @property
    def oldest(self) -> int:
        """The chunk whose slots are the first ones."""
        return self._base

    def slide(self, step: int, end: int) -> Iterator[tuple[slice, int]]:
        """Forget the chunks that neither this step nor a later one sees.

        Args:
            step: index of the step that comes.
            end: the first chunk that has no keys and values yet.

        Yields:
            Slots to move, and where to: once for each branch that sees the past.
        """
        oldest = self._oldest[step]
        by, count = oldest - self._base, max(end - oldest, 0)
        self._base = oldest
        for branch, first in self._first.items():
            if branch in (TEXT, PAST) and by > 0 and count > 0:
                yield slice(first + by, first + by + count), first
