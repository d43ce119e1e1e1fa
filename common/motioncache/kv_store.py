"""What keeps the keys and values of a window, and what it is asked: a pass through the blocks gives and takes."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

KeysValues = tuple[torch.Tensor, torch.Tensor]


class Segment(Protocol):
    """Rows `[start, stop)` of a pass: what is computed of one chunk of one CFG branch.

    Attributes:
        chunk: the rows of the whole chunk in the KV cache.
        attended: the rows of the KV cache that it may see; they begin where those of its branch begin.
        clean: whether it is computed for its keys and values alone, which later passes see as they are now.
    """

    @property
    def branch(self) -> str: ...

    @property
    def start(self) -> int: ...

    @property
    def stop(self) -> int: ...

    @property
    def chunk(self) -> slice: ...

    @property
    def attended(self) -> slice: ...

    @property
    def clean(self) -> bool: ...


class Pass(Protocol):
    """What is computed in one pass through the blocks.

    Attributes:
        segments: in the order of the rows; the segments of one branch are neighbours.
        cache_rows: row of the KV cache of each row, int64 `[n]`.
    """

    @property
    def segments(self) -> Sequence[Segment]: ...

    @property
    def cache_rows(self) -> torch.Tensor: ...


class KVStore(Protocol):
    """Keeps keys and values from one pass to the next. Keys come after rotary embedding."""

    def exchange(self, layer: int, rows: Pass, key: torch.Tensor, value: torch.Tensor) -> Iterator[KeysValues]:
        """Take a layer's keys and values of a pass, `[B, n, heads, head_dim]`.

        Yields:
            What each segment attends to, in their order, valid until the next is asked for.
        """
        ...
