"""One packed pass: the tokens of several chunks and guidance branches side by side.

Linear layers see all rows at once; attention runs segment by segment, without a mask, against the range of the KV cache
that a chunk may see. Shapes: n packed rows, D channels, H query heads, G key heads, d head_dim, Dc condition channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

Watch = Callable[[int, torch.Tensor, torch.Tensor], None]


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Let queries `[n, H, d]` attend to keys and values `[1, m, G, d]`; the result is `[n, H * d]`.

    The attention backend is the one that is set in diffusers.
    """
    out = dispatch_attention_fn(query[None], key, value, enable_gqa=query.shape[1] != key.shape[2])
    return out[0].flatten(1)


class Keys(Protocol):
    """The store of keys and values: a `KVCache`, or one that holds those of a single pass."""

    def write(self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None: ...

    def read(self, layer: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]: ...


@dataclass(slots=True, eq=False)
class Text:
    """The text that a chunk attends to.

    Attributes:
        embedded: projected embeddings, `[text_length, D]`.
        keys_values: keys and values by layer; a layer adds its own at the first use of the text.
    """

    embedded: torch.Tensor
    keys_values: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The tokens of one chunk in one branch; segments follow one another in the packed rows.

    Attributes:
        rows: number of tokens.
        attended: rows of the KV cache that the tokens may attend to, their own among them; None for their own alone,
            which are not kept.
        text: the text of the cross-attention, whose result is zero if the text is empty.
        watch: is called with the index of a layer, the queries `[rows, H, d]`, and the keys that these attend to,
            `[1, m, G, d]`.
    """

    rows: int
    attended: slice | None
    text: Text
    watch: Watch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Everything that a layer needs to know about the packed rows.

    Attributes:
        cache_rows: row of the KV cache that each packed row is written to, int64; those that are not kept come last.
        rotary: cosine and sine of the rotary angles of each row, float32 `[n, 1, angles]`.
        condition: condition of each segment, `[segments, Dc]`.
        segment_of_row: index of the segment that each row belongs to, int64 `[n]`.
    """

    segments: Sequence[Segment]
    cache: Keys
    cache_rows: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]
    condition: torch.Tensor
    segment_of_row: torch.Tensor
    attend: Attend = attend

    def attend_past(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Write the rows' keys and values, and let every segment attend to what it may see: `[n, H * d]`."""
        kept = len(self.cache_rows)
        if kept:
            self.cache.write(layer, self.cache_rows, key[None, :kept], value[None, :kept])
        attended: list[torch.Tensor] = []
        rows = [segment.rows for segment in self.segments]
        for segment, own, *fresh in zip(self.segments, *(x.split(rows) for x in (query, key, value)), strict=True):
            past = [x[None] for x in fresh] if segment.attended is None else self.cache.read(layer, segment.attended)
            if segment.watch is not None:
                segment.watch(layer, own, past[0])
            attended.append(self.attend(own, *past))
        return torch.cat(attended)
