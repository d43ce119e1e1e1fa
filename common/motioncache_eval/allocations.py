"""Counts the bytes of live tensors while code runs; on meta tensors that takes neither memory nor a GPU."""

import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WEIGHTS = "weights"

_UNNAMED = ("torch", __name__)
"""Packages whose functions name no allocation; their caller does."""


class Allocations(TorchDispatchMode):
    """Counts every storage once, from the operator that makes it until it is freed; views are free.

    Args:
        times: functions whose allocations count more than once, since they run in more layers than are there.

    Attributes:
        live: bytes by the function or module that allocated them.
        peak: the most bytes that were alive at once.
        at_peak: `live` at that moment.
    """

    def __init__(self, device: str = "meta", times: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self._times = times or {}
        self.live: Counter[str] = Counter()
        self.peak = 0
        self.at_peak: Counter[str] = Counter()
        self._device = device
        self._total = 0
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._attention = _FlashAttention(self)

    def __enter__(self) -> Self:
        gc.collect()
        self._attention.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._attention.__exit__(kind, error, trace)

    def hold(self, tensors: Iterable[torch.Tensor], name: str = WEIGHTS) -> None:
        """Count tensors that are there already."""
        for tensor in tensors:
            self._count(tensor, name)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = _zeros_on_host(func, args, kwargs or {})
        if out is None:
            out = func(*args, **(kwargs or {}))
        found = [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        if any(one.untyped_storage()._cdata not in self._alive for one in found):
            name = _allocating()
            for one in found:
                self._count(one, name)
        return out

    def _count(self, tensor: torch.Tensor, name: str) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, round(storage.nbytes() * self._times.get(name, 1))
        if key in self._alive or tensor.device.type != self._device:
            return
        self._alive[key] = weakref.ref(storage, lambda _: self._free(key, size, name))
        self.live[name] += size
        self._total += size
        if self._total > self.peak:
            self.peak, self.at_peak = self._total, Counter(self.live)

    def _free(self, key: int, size: int, name: str) -> None:
        del self._alive[key]
        self.live[name] -= size
        self._total -= size


def attention_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Query, key and value of a call of `scaled_dot_product_attention`, however they were passed."""
    return [*args, *(kwargs[name] for name in ("query", "key", "value")[len(args) :])][:3]


class _FlashAttention(TorchFunctionMode):
    """Attention as FlashAttention allocates it: the result, and a float32 for each query and head."""

    def __init__(self, allocations: Allocations) -> None:
        super().__init__()
        self._allocations = allocations

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, _, value = attention_tensors(args, kwargs or {})
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        del rows
        return out


def _zeros_on_host(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """What a copy of a meta tensor to the host gives: zeros, or what was there; None for any other operator."""
    if func is torch.ops.aten.copy_.default and args[1].is_meta and not args[0].is_meta:
        return args[0]
    if func is not torch.ops.aten._to_copy.default or not args[0].is_meta:
        return None
    if torch.device(kwargs.get("device") or "meta").type == "meta":
        return None
    return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)


def _allocating() -> str:
    """The function or module that the running operator belongs to."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_UNNAMED):
        frame = frame.f_back
    return frame.f_code.co_qualname.removesuffix(".forward")
