"""The forms in which a chunk's keys or values are kept, `[batch, n, heads, head_dim]` of one layer."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Protocol

import torch

from motioncache.config import KVStorage

LEVELS = 127
"""Of int8, on each side of zero."""


class Kept(Protocol):
    """A tensor that is read seldom."""

    def __init__(self, x: torch.Tensor) -> None: ...

    def update(self, x: torch.Tensor, due: torch.Tensor | None) -> None:
        """Take the rows `due` of `x`, int64; None for all."""
        ...

    def fetch(self) -> None:
        """Begin to bring it to where it is read."""
        ...

    def copy_to(self, out: torch.Tensor) -> None:
        """Write all rows into a tensor."""
        ...


class KeptAsIs:
    """A copy."""

    def __init__(self, x: torch.Tensor) -> None:
        self._x = x.clone(memory_format=torch.contiguous_format)

    def update(self, x: torch.Tensor, due: torch.Tensor | None) -> None:
        """See `Kept`."""
        _copy_rows(x, self._x, due)

    def fetch(self) -> None:
        """It is here."""

    def copy_to(self, out: torch.Tensor) -> None:
        """See `Kept`."""
        out.copy_(self._x)


class KeptInInt8:
    """Whole numbers from -127 to 127, and a scale for each token and head.

    A value is off by at most half a scale: 1/254 of the largest value of its token and head, besides the rounding of
    its dtype.
    """

    def __init__(self, x: torch.Tensor) -> None:
        values, scales = quantise(x)
        self._values, self._scales = values.to(torch.int8), scales.clone()

    def update(self, x: torch.Tensor, due: torch.Tensor | None) -> None:
        """See `Kept`."""
        values, scales = quantise(x if due is None else x.index_select(1, due))
        for new, old in ((values.to(torch.int8), self._values), (scales, self._scales)):
            old.copy_(new) if due is None else old.index_copy_(1, due, new)

    def fetch(self) -> None:
        """It is here."""

    def copy_to(self, out: torch.Tensor) -> None:
        """See `Kept`."""
        torch.mul(self._values, self._scales, out=out)


def quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers, and scales in the dtype of `x`, whose product is `x` again: `[..., d]` and `[..., 1]`."""
    largest = torch.maximum(x.amax(-1, keepdim=True), -x.amin(-1, keepdim=True))
    scales = (largest.float() / LEVELS).clamp(min=torch.finfo(x.dtype).tiny).to(x.dtype)
    return (x.float() / scales.float()).round_().clamp_(-LEVELS, LEVELS), scales


class KeptOnHost:
    """A copy in the host's memory; with CUDA it is pinned, and copied by a stream of its own."""

    def __init__(self, x: torch.Tensor) -> None:
        self._device = x.device
        self._host = torch.empty(x.shape, dtype=x.dtype, device="cpu", pin_memory=x.is_cuda)
        self._here: torch.Tensor | None = None
        self._arrived: Any = None  # an event, with CUDA
        self.update(x, None)

    def update(self, x: torch.Tensor, due: torch.Tensor | None) -> None:
        """See `Kept`. All rows go over, as to pick some of them on the host would be to wait for the device."""
        self._here = None
        if x.is_cuda:
            side = copy_stream(x.device)
            side.wait_stream(torch.cuda.current_stream(x.device))
            x.record_stream(side)
        with self._beside():
            self._host.copy_(x, non_blocking=True)

    def fetch(self) -> None:
        """See `Kept`."""
        if self._here is None:
            with self._beside():
                self._here = self._host.to(self._device, non_blocking=True)
                self._arrived = torch.cuda.current_stream().record_event() if self._here.is_cuda else None

    def copy_to(self, out: torch.Tensor) -> None:
        """See `Kept`."""
        self.fetch()
        assert self._here is not None
        if self._arrived is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._arrived)
            self._here.record_stream(stream)
        out.copy_(self._here)
        self._here = self._arrived = None

    def _beside(self) -> AbstractContextManager[object]:
        """Whatever is copied inside goes into the stream for copies."""
        return torch.cuda.stream(copy_stream(self._device)) if self._device.type == "cuda" else nullcontext()


FORMS: dict[KVStorage, type[Kept]] = {
    KVStorage.model: KeptAsIs,
    KVStorage.int8: KeptInInt8,
    KVStorage.host: KeptOnHost,
}


@cache
def copy_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream that copies between a GPU and the host."""
    return torch.cuda.Stream(device)


def _copy_rows(x: torch.Tensor, to: torch.Tensor, due: torch.Tensor | None) -> None:
    if due is None:
        to.copy_(x)
    else:
        to.index_copy_(1, due, x.index_select(1, due))
