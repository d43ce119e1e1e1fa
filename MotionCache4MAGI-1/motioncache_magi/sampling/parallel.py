"""Samples a video of MAGI-1 in several processes: each computes its branches of guidance, and its heads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from motioncache.parallel import Group, Ranks
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Pack, Segment
from motioncache_magi.sampling.guidance import Pass, Velocities, branches_of
from motioncache_magi.sampling.kv_layout import PAST, TEXT
from motioncache_magi.sampling.reuse import Due
from motioncache_magi.sampling.sampler import Sampler
from motioncache_magi.sampling.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPack(Pack):
    """A process's share of the rows of a pack; they attend to the past with all rows of the process's heads.

    Attributes:
        whole: the pack of all rows.
        rows: how many rows it has.
    """

    heads: Group
    whole: Pack
    rows: int

    def attend_past(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Exchange rows for heads, attend, and exchange them back."""
        shared = len(query) * self.heads.size
        query, key, value = self.heads.to_heads(query[None], key[None], value[None])
        attended = self.whole.attend_past(layer, *(x[0, : self.rows] for x in (query, key, value)))
        padding = attended.new_zeros(shared - self.rows, attended.shape[1])
        return self.heads.to_rows(torch.cat([attended, padding])[None])[0]


def share_pack(pack: Pack, heads: Group, rows: int) -> SharedPack:
    """This process's share of a pack of so many rows."""
    cos, sin, segment_of_row = (heads.take_rows(x[None])[0] for x in (*pack.rotary, pack.segment_of_row))
    return SharedPack(
        segments=_share_segments(pack.segments, heads.rank * len(cos), len(cos)),
        cache=pack.cache,
        cache_rows=pack.cache_rows,
        rotary=(cos, sin),
        condition=pack.condition,
        segment_of_row=segment_of_row,
        attend=pack.attend,
        heads=heads,
        whole=pack,
        rows=rows,
    )


def _share_segments(segments: Sequence[Segment], first: int, share: int) -> list[Segment]:
    """The parts of segments that lie in a share of the rows; rows that only pad belong to the last segment."""
    parts: list[Segment] = []
    stop, end = 0, first + share
    for segment in segments:
        start, stop = stop, stop + segment.rows
        rows = (end if segment is segments[-1] else min(stop, end)) - max(start, first)
        if rows > 0:
            parts.append(replace(segment, rows=min(rows, share)))
    return parts


class SharedModel:
    """A model whose layers run over this process's share of the rows; in all else it is the model itself."""

    def __init__(self, model: VideoDiT, heads: Group) -> None:
        self._model = model
        self._heads = heads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_layers(self, tokens: Iterable[torch.Tensor], packs: Sequence[Pack]) -> list[torch.Tensor]:
        """See `VideoDiT`; every process has all rows afterwards."""
        heads, lengths, shares = self._heads, list[int](), list[torch.Tensor]()
        for rows in tokens:
            lengths.append(len(rows))
            shares.append(heads.take_rows(rows[None])[0])
        shared = [share_pack(pack, heads, rows) for pack, rows in zip(packs, lengths, strict=True)]
        computed = self._model.run_layers(shares, shared)
        return [heads.gather_rows(x[None], rows)[0] for x, rows in zip(computed, lengths, strict=True)]


class ParallelSampler(Sampler):
    """Computes the passes of this process's branches with its heads, and moves the latents with those of all."""

    def __init__(self, model: VideoDiT, *args: Any, ranks: Ranks, **options: Any) -> None:
        self._ranks = ranks
        self._parts = ranks.heads.size
        shared: Any = SharedModel(model, ranks.heads) if ranks.heads.size > 1 else model
        super().__init__(shared, *args, **options)

    @property
    def _own(self) -> tuple[str, ...]:
        return self._ranks.own(self._branches)

    @property
    def _branches(self) -> tuple[str, ...]:
        return branches_of(self._settings.guidance)

    @property
    def _keeps_all(self) -> bool:
        """Branches that lie apart exchange rows of buffers."""
        return super()._keeps_all or self._ranks.branches.size > 1

    def _kept_branches(self) -> tuple[str, ...]:
        return tuple(branch for branch in super()._kept_branches() if branch in self._own)

    def _run(
        self, passes: Sequence[Pass], due: dict[int, Due], embedded: dict[int, torch.Tensor], step: Step
    ) -> Velocities:
        if self._ranks.branches.size == 1:
            return super()._run(passes, due, embedded, step)
        passes = [one for one in passes if due.get(one.chunk, False) is not False]
        own = super()._run([one for one in passes if one.branch in self._own], due, embedded, step)
        if any(one.refresh for one in passes):
            assert step.refresh is not None
            self._exchange_refreshed(step.refresh)
        return self._exchange(passes, due, own)

    def _exchange(self, passes: Sequence[Pass], due: dict[int, Due], own: Velocities) -> Velocities:
        """The velocities of all branches."""
        lengths: dict[tuple[str, int], int] = {}
        for one in passes:
            tokens = due[one.chunk]
            if not one.refresh:
                length = len(tokens) if isinstance(tokens, torch.Tensor) else self._grid.tokens_per_chunk
                lengths[one.branch, one.chunk] = length
        if not lengths:
            return own
        values = 4 * self._model.latent_channels
        parts = [
            own[place] if place in own else self.latents.new_zeros(length, values) for place, length in lengths.items()
        ]
        joined = self._ranks.branches.sum(torch.cat(parts))
        return dict(zip(lengths, joined.split(list(lengths.values())), strict=True))

    def _share_refreshed(self, chunk: int) -> None:
        if self._ranks.branches.size == 1:
            super()._share_refreshed(chunk)

    def _exchange_refreshed(self, chunk: int) -> None:
        """Give the branch with text the keys and values of the clean chunk that the one without has computed."""
        group = self._ranks.branches
        source, to = (self._ranks.owner(self._branches, branch) for branch in (PAST, TEXT))
        for layer in range(self._model.config.num_layers):  # one at a time, for the sake of memory
            if group.rank == source:
                for x in self._cache.read(layer, self._rows_of(PAST, chunk)):
                    group.send(x, to)
            if group.rank == to:
                for x in self._cache.read(layer, self._rows_of(TEXT, chunk)):
                    x.copy_(group.receive(x, source))

    def _rows_of(self, branch: str, chunk: int) -> slice:
        start = self._first_row(branch, chunk)
        return slice(start, start + self._grid.tokens_per_chunk)
