"""One packed pass: the tokens of several chunks and guidance branches side by side.

Linear layers see all rows at once; attention runs segment by segment, without a mask, against the range of the KV cache
that a chunk may see. Shapes: n packed rows, D channels, H query heads, G key heads, d head_dim, Dc condition channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from motioncache_magi.model.attention import Attend, attend

Watch = Callable[[int, torch.Tensor, torch.Tensor], None]


class Keys(Protocol):
    """Where keys and values of all rows are found: a `KVCache`, or those of this very pass."""

    def write(self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None: ...

    def read(self, layer: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]: ...


@dataclass(slots=True, eq=False)
class Text:
    """The words that a chunk attends to, and their keys and values per layer, projected at their first use.

    Attributes:
        embedded: `[words, D]`.
    """

    embedded: torch.Tensor
    keys_values: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Tokens of one chunk in one branch; segments follow one another in the packed rows.

    Attributes:
        rows: how many tokens.
        attended: rows of the KV cache that they may see, their own among them.
        text: what they attend to across; without words they get nothing.
        watch: is told a layer's index, the queries `[rows, H, d]`, and the keys that they see, `[1, m, G, d]`.
    """

    rows: int
    attended: slice
    text: Text
    watch: Watch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Everything a layer needs to know of the packed rows.

    Attributes:
        cache_rows: row of the KV cache of each packed row, int64 `[n]`.
        rotary: cosine and sine of each row, float32 `[n, 1, angles]`.
        condition: one row per segment, `[segments, Dc]`.
        segment_of_row: int64 `[n]`.
    """

    segments: Sequence[Segment]
    cache: Keys
    cache_rows: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]
    condition: torch.Tensor
    segment_of_row: torch.Tensor
    attend: Attend = attend
