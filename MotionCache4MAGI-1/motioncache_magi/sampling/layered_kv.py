"""Keys and values that outlive a layer in a form of their own; one layer's lie side by side while it is computed.

A step's chunks read what earlier steps have kept, and what the step itself computes. Where every step computes all
chunks that denoise, only clean chunks are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from motioncache.kept import Kept
from motioncache_magi.sampling.guidance import Pass
from motioncache_magi.sampling.kv_layout import ALONE, PAST, TEXT, Move, Place
from motioncache_magi.sampling.reuse import Due


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A chunk of a branch in a step, as its keys and values are concerned.

    Attributes:
        row: its first row.
        sees: first rows of the chunks that it attends to, its own among them.
        due: the tokens that are computed, int64; None for all.
        clean: whether later steps see it as it is now.
    """

    place: Place
    row: int
    sees: dict[Place, int] = field(default_factory=dict)
    due: torch.Tensor | None = None
    clean: bool = False


class LayeredKVCache:
    """Does what `MovingKVCache` does.

    Args:
        form: how the keys or the values of a chunk are kept.
        keeps_all: keep all chunks that are computed, and not clean ones alone.
        rows: of the chunks that a step sees.
        per_chunk: rows of a chunk.
    """

    def __init__(
        self,
        form: type[Kept],
        *,
        keeps_all: bool,
        rows: int,
        per_chunk: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._form = form
        self._keeps_all = keeps_all
        self._per_chunk = per_chunk
        self._side_by_side = torch.empty(2, 1, rows, heads, head_dim, dtype=dtype, device=device)
        self._kept: dict[Place, dict[int, tuple[Kept, Kept]]] = {}  # by layer
        self._wanted: dict[Place, int] = {}
        self._visits: list[Visit] = []
        self._layer: int | None = None

    def begin(self, passes: Sequence[Pass], due: Mapping[int, Due], first_row: Callable[[str, int], int]) -> None:
        """Begin a step with the passes that it makes.

        Args:
            due: what is computed of each chunk.
            first_row: the first row of a chunk of a branch.
        """
        text_reads = PAST if any(one.branch == PAST for one in passes) else TEXT  # the clean chunk of this branch
        visits = [_visit(one, due[one.chunk], first_row, text_reads) for one in passes]
        whole = {visit.place for visit in visits if visit.due is None}
        self._wanted = {place: row for visit in visits for place, row in visit.sees.items() if place not in whole}
        if missing := sorted(place for place in self._wanted if place not in self._kept):
            raise RuntimeError(f"keys and values of {missing} are attended to, and were not kept")
        self._visits = [visit for visit in visits if self._keeps_all or visit.clean]
        self._layer = None

    def write(self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """See `KVCache`; a layer is finished when the next one is written."""
        if layer != self._layer:
            self._finish_layer()
            self._lay_out(layer)
        for place, x in enumerate((key, value)):
            self._side_by_side[place].index_copy_(1, rows, x.to(self._side_by_side.dtype))

    def read(self, layer: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """See `KVCache`."""
        key, value = self._side_by_side[:, :, rows]
        return key, value

    def end(self) -> None:
        """All layers have been computed."""
        self._finish_layer()

    def slide(self, moves: Sequence[Move], oldest: int, window: range) -> None:
        """Free the chunks that are no longer seen, see `MovingKVCache`; nothing has to be moved."""
        for branch, chunk in [*self._kept]:
            if chunk < (window.start if branch == ALONE else oldest):
                del self._kept[branch, chunk]

    def share(self, source: Place, to: Place, rows: Move) -> None:
        """Let a chunk of one branch be that of another one."""
        self._kept[to] = self._kept[source]

    def _lay_out(self, layer: int) -> None:
        self._layer = layer
        for ahead in (layer, layer + 1):  # the next layer comes over while this one is computed
            for place in self._wanted:
                for kept in self._kept[place].get(ahead, ()):
                    kept.fetch()
        for place, row in self._wanted.items():
            for kept, x in zip(self._kept[place][layer], self._side_by_side, strict=True):
                kept.copy_to(x[:, row : row + self._per_chunk])

    def _finish_layer(self) -> None:
        layer, self._layer = self._layer, None
        if layer is None:
            return
        for visit in self._visits:
            key, value = self._side_by_side[:, :, visit.row : visit.row + self._per_chunk]
            by_layer = self._kept.setdefault(visit.place, {})
            if layer not in by_layer:
                by_layer[layer] = (self._form(key), self._form(value))
                continue
            for kept, x in zip(by_layer[layer], (key, value), strict=True):
                kept.update(x, visit.due)


def _visit(one: Pass, due: Due, first_row: Callable[[str, int], int], shared: str) -> Visit:
    """What a pass reads and writes; branches share the clean chunk of one of them."""
    chunks = (one.chunk,) if one.branch == ALONE else range(*one.seen)
    return Visit(
        place=(one.branch, one.chunk),
        row=first_row(one.branch, one.chunk),
        sees={(one.branch, chunk): first_row(one.branch, chunk) for chunk in chunks},
        due=due if isinstance(due, torch.Tensor) else None,
        clean=one.refresh and one.branch == shared,
    )
