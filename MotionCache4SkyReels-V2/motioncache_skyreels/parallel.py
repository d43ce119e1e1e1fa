"""A window of one video that several processes sample together: each computes its CFG branches, and its heads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2Attention

from motioncache.decision import Decision
from motioncache.parallel import Group, Ranks
from motioncache_skyreels.packed import Pack, apply_head
from motioncache_skyreels.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPack(Pack):
    """A process's share of the rows of a pack; they attend with all rows of the process's heads.

    Attributes:
        whole: the pack of all rows.
        rows: how many rows it has.
    """

    heads: Group
    whole: Pack
    rows: int

    def attend(
        self, attn: SkyReelsV2Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int
    ) -> torch.Tensor:
        """Exchange rows for heads, attend, and exchange them back."""
        shared = query.shape[1] * self.heads.size
        query, key, value = (x[:, : self.rows] for x in self.heads.to_heads(query, key, value))
        attended = self.whole.attend(attn, query, key, value, layer)  # [B, rows, D / P]
        padding = attended.new_zeros(len(attended), shared - self.rows, attended.shape[2])
        return self.heads.to_rows(torch.cat([attended, padding], dim=1))

    def branch_rows(self) -> dict[str, slice]:
        """The share's rows of each CFG branch; rows that only pad belong to the last one."""
        share = math.ceil(self.rows / self.heads.size)
        first = self.heads.rank * share
        rows: dict[str, slice] = {}
        all_rows = self.whole.branch_rows()
        for branch, place in all_rows.items():
            stop = share if branch == list(all_rows)[-1] else min(place.stop - first, share)
            start = min(max(place.start - first, 0), share)
            if start < stop:
                rows[branch] = slice(start, stop)
        return rows


def share_pack(pack: Pack, heads: Group, rows: int) -> SharedPack:
    """This process's share of a pack of so many rows."""
    share = math.ceil(rows / heads.size)
    group = rows // len(pack.frames)  # neighbouring rows of one latent frame
    step = math.gcd(group, share)
    places = torch.arange(heads.rank * share, (heads.rank + 1) * share, step).clamp(max=rows - 1) // group
    cos, sin = (heads.take_rows(table) for table in pack.rotary)
    return SharedPack(
        segments=pack.segments,
        cache=pack.cache,
        cache_rows=pack.cache_rows,
        rotary=(cos, sin),
        modulation=pack.modulation,
        frames=pack.frames[places.to(pack.frames.device)],
        texts=pack.texts,
        heads=heads,
        whole=pack,
        rows=rows,
    )


class ParallelWindow(Window):
    """Computes the CFG branches of this process with its heads, and has the result of all.

    What a chunk keeps belongs to its branch, and stays with the processes that compute the branch. Velocities that are
    kept are those of all branches, everywhere: a forecast exchanges nothing.
    """

    def __init__(self, *args: Any, ranks: Ranks, branches: tuple[str, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self._ranks = ranks
        self._cached = ranks.own(branches)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        output = super().forward(*args, **kwargs)
        if self.finished and self._divides_branches and not self._keeps_velocity:
            self._join_traces()
        return output

    @property
    def _divides_branches(self) -> bool:
        return self._ranks.branches.size > 1

    def _compute(
        self,
        branches: tuple[str, ...],
        iteration: int,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        fps: Sequence[int] | None,
    ) -> dict[str, torch.Tensor]:
        call = (iteration, hidden_states, timestep, fps)
        if not self._divides_branches:
            return super()._compute(branches, *call)
        if self._keeps_velocity:
            return self._compute_velocities(branches, *call)
        own = super()._compute(tuple(branch for branch in branches if branch in self._cached), *call)
        return self._exchange(self._zeros(branches, hidden_states) | own)

    def _compute_velocities(
        self,
        branches: tuple[str, ...],
        iteration: int,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        fps: Sequence[int] | None,
    ) -> dict[str, torch.Tensor]:
        """Decide for all branches, run those of this process, and complete all in the same order everywhere."""
        decisions = self._decide(branches, iteration)
        outputs = self._zeros(branches, hidden_states)
        computed = [decision for decision in decisions if decision.computed]
        own = [decision for decision in computed if decision.call.branch in self._cached]
        if own:
            frames = self._embed(hidden_states, timestep, fps, sorted({d.call.chunk for d in own}))
            for decision, rows in zip(own, self._run_blocks(own, frames), strict=True):
                if decision.call.kv_only is None:
                    where = self.grid.chunk_of_frames(decision.call.chunk)
                    outputs[decision.call.branch][:, :, where] = apply_head(
                        self._transformer, self.grid, rows, frames.temb[where]
                    )
        if computed:
            outputs = self._exchange(outputs)
        for decision in decisions:
            self._complete(decision, outputs[decision.call.branch])
        return outputs

    def _complete(self, decision: Decision, output: torch.Tensor) -> None:
        """Commit a chunk whose velocity is in its place, if it has been computed."""
        if not decision.computed:
            self._forecast(decision, output)
            return
        velocity = output[:, :, self.grid.chunk_of_frames(decision.call.chunk)]
        completed = self._engine.complete(decision, torch.zeros_like(velocity), velocity.clone())
        self._engine.commit(decision, completed)
        velocity.copy_(completed)

    def _zeros(self, branches: Sequence[str], hidden_states: torch.Tensor) -> dict[str, torch.Tensor]:
        batch, _, *size = hidden_states.shape
        return {b: hidden_states.new_zeros(batch, self._transformer.config.out_channels, *size) for b in branches}

    def _exchange(self, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs of all branches; those that this process has not computed are zero."""
        joined = self._ranks.branches.sum(torch.stack(list(outputs.values())))
        return dict(zip(outputs, joined.unbind(), strict=True))

    def _join_traces(self) -> None:
        """Let every process have the records of all branches of the window, in the order of one process."""
        trace = self._engine.trace
        window = len(trace.windows) - 1
        before = [record for record in trace.records if record.window < window]
        own = [record for record in trace.records if record.window == window]
        found = [record for records in self._ranks.branches.gather_objects(own) for record in records]
        order = trace.windows[window].branches
        found.sort(key=lambda record: (record.iteration, order.index(record.branch), record.chunk))
        trace.records[:] = [*before, *found]

    def _through_blocks(self, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        heads, rows = self._ranks.heads, hidden.shape[1]
        if heads.size == 1:
            return super()._through_blocks(hidden, pack)
        share = super()._through_blocks(heads.take_rows(hidden), share_pack(pack, heads, rows))
        return heads.gather_rows(share, rows)
