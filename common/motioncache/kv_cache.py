"""Keys and values of a window, one pair of buffers per layer."""

import torch


class KVCache:
    """Rows of keys and values, `[batch, rows, heads, head_dim]` per layer, allocated once.

    A row is one token of one CFG branch; which rows belong to which branch is the caller's affair. Keys are stored
    after rotary embedding, in the model's dtype.
    """

    def __init__(
        self,
        *,
        layers: int,
        batch: int,
        rows: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (layers, 2, batch, rows, heads, head_dim)
        self._buffer = torch.empty(shape, dtype=dtype, device=device)

    def write(self, layer: int, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store `[batch, n, heads, head_dim]` keys and values at `rows`, int64 `[n]`."""
        self._buffer[layer, 0].index_copy_(1, rows, key.to(self._buffer.dtype))
        self._buffer[layer, 1].index_copy_(1, rows, value.to(self._buffer.dtype))

    def read(self, layer: int, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of the keys and values of a range of rows."""
        return self._buffer[layer, 0, :, rows], self._buffer[layer, 1, :, rows]

    def keep(self, layer: int, rows: slice, chosen: torch.Tensor, to: int) -> None:
        """Copy some of a range of rows, others for each head, to the rows from `to` on.

        Args:
            chosen: within the range, int64 `[heads, n]`.
        """
        held = self._buffer[layer, :, :, rows]  # [2, batch, rows, heads, head_dim]
        index = chosen.T[None, None, :, :, None].expand(*held.shape[:2], -1, -1, held.shape[-1])
        self._buffer[layer, :, :, to : to + chosen.shape[1]] = held.gather(2, index)

    def copy(self, source: slice, to: int) -> None:
        """Copy a range of rows of every layer to the rows from `to` on; the two may overlap."""
        length = source.stop - source.start
        self._buffer[:, :, :, to : to + length] = self._buffer[:, :, :, source].clone()
