"""Keys and values of a window, one pair of buffers per layer."""

from collections.abc import Iterator

import torch

from motioncache.kv_store import KeysValues, Pass


class KVCache:
    """Rows of keys and values, `[batch, rows, heads, head_dim]` per layer, allocated once.

    A row is one token of one CFG branch; which rows belong to which branch is the caller's affair. Keys are stored
    after rotary embedding, in the model's dtype.
    """

    def __init__(
        self, *, layers: int, batch: int, rows: int, heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (layers, 2, batch, rows, heads, head_dim)
        self._buffer = torch.empty(shape, dtype=dtype, device=device)

    def exchange(self, layer: int, rows: Pass, key: torch.Tensor, value: torch.Tensor) -> Iterator[KeysValues]:
        """See `KVStore`."""
        self.write(layer, rows.cache_rows, key, value)
        for segment in rows.segments:
            yield self.read(layer, segment.attended)

    def write(self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store `[batch, n, heads, head_dim]` keys and values at `rows`, int64 `[n]`."""
        self._buffer[layer, 0].index_copy_(1, rows, key.to(self._buffer.dtype))
        self._buffer[layer, 1].index_copy_(1, rows, value.to(self._buffer.dtype))

    def read(self, layer: int, rows: slice) -> KeysValues:
        """Views of the keys and values of a range of rows."""
        return self._buffer[layer, 0, :, rows], self._buffer[layer, 1, :, rows]
