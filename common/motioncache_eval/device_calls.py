"""Counts what a model call asks of its device: kernels, waits of the host, copies, bytes and FLOPs.

On meta tensors that takes neither memory nor a GPU: the code runs at its real size, and what it would read back from
the device is made up.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Any, Self

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from motioncache_eval.allocations import attention_tensors
from motioncache_eval.meter import FlopCount

_ATEN = torch.ops.aten

_READS_BACK = {
    _ATEN._local_scalar_dense.default: 0,
    _ATEN.equal.default: True,
    _ATEN.nonzero.default: None,
    _ATEN.masked_select.default: None,
    _ATEN._unique2.default: None,
    _ATEN.unique_dim.default: None,
    _ATEN.unique_consecutive.default: None,
    _ATEN.repeat_interleave.Tensor: None,
}
"""Operators whose result the host waits for, and what they give on meta tensors; None where that has no shape."""

_COPIES = (_ATEN._to_copy.default, _ATEN.copy_.default)

_INDEXES = (_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default, _ATEN._index_put_impl_.default)

_ALLOCATES = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "detach", "alias")
"""Operators without a kernel, besides views."""

_MAKES_TENSORS = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)


@dataclass(slots=True)
class Counts:
    """What was asked of a device.

    Attributes:
        launches: operators that run a kernel; attention counts as one.
        waits: times that the host waits for a value.
        copies: times that values of the host are copied to the device, for which the host may wait as well.
        bytes: read and written by the operators, each for itself.
        flops: of matrix products, convolutions and attention; a multiply-add counts as 2.
    """

    launches: int = 0
    waits: int = 0
    copies: int = 0
    bytes: int = 0
    flops: int = 0


class DeviceCalls(TorchDispatchMode):
    """Counts inside a `with` block.

    Args:
        device: the type of the device.
        due: on meta tensors, the share of a bool mask that is true when the host reads it.
    """

    def __init__(self, device: str = "meta", *, due: float = 0.5) -> None:
        super().__init__()
        self.counts = Counts()
        self._device = device
        self._due = due
        self._functions = _Functions(self)
        self._flops = FlopCount()
        self._entered = 0

    def __enter__(self) -> Self:
        self._entered += 1
        if self._entered == 1:
            self._functions.__enter__()
            self._flops.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._entered -= 1
        if self._entered == 0:
            self._flops.__exit__(kind, error, trace)
            self._functions.__exit__(kind, error, trace)
            self.counts.flops += self._flops.flops
            self._flops.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_made_of_others(func):  # such come here in inference mode
            with self:
                return func.decompose(*args, **kwargs)
        read = _tensors((args, kwargs))
        there = [one for one in read if self.is_on_device(one)]
        waits = self._count_transfers(func, args, kwargs, there)
        out = self._run(func, args, kwargs) if there else func(*args, **kwargs)
        made = [one for one in _tensors(out) if self.is_on_device(one)]
        if (there or made) and not waits and _has_kernel(func):
            self.launch([*there, *made])
        return out

    def so_far(self) -> Counts:
        """What has been counted, inside the block."""
        return replace(self.counts, flops=self.counts.flops + self._flops.flops)

    def is_on_device(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is where operators are counted."""
        return tensor.device.type == self._device

    def launch(self, tensors: list[torch.Tensor]) -> None:
        """Count a kernel that reads or writes these tensors."""
        self.counts.launches += 1
        self.counts.bytes += sum(one.numel() * one.element_size() for one in tensors)

    def _count_transfers(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], there: list[torch.Tensor]
    ) -> bool:
        """Count waits and copies; whether the operator is nothing else."""
        if func in _READS_BACK and there:
            self.counts.waits += 1
            return True
        if func in _COPIES:
            return self._count_copy(func, args, kwargs)
        if func in _INDEXES and self.is_on_device(args[0]):
            indices = [index for index in args[1] if index is not None]
            self.counts.waits += sum(index.dtype == torch.bool for index in indices)
            self.counts.copies += sum(not self.is_on_device(index) for index in indices)
        return False

    def _count_copy(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        source = args[0] if func is _ATEN._to_copy.default else args[1]
        target = torch.device(kwargs.get("device") or source.device) if source is args[0] else args[0].device
        before, after = source.device.type == self._device, target.type == self._device
        self.counts.waits += before and not after
        self.counts.copies += after and not before
        return before != after

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator; on meta tensors, what the host reads is made up."""
        if self._device != "meta":
            return func(*args, **kwargs)
        if func in _READS_BACK and _READS_BACK[func] is not None:
            return _READS_BACK[func]
        if func is _ATEN.nonzero_static.default:
            return args[0].new_empty(kwargs["size"], args[0].ndim, dtype=torch.int64)
        target = torch.device(kwargs.get("device") or "meta")
        if func is _ATEN.copy_.default and args[0].device.type != "meta":
            return args[0].zero_()
        if func is _ATEN._to_copy.default and target.type != "meta":
            return self._made_up(args[0], kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)

    def _made_up(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        values = torch.zeros(tensor.shape, dtype=dtype)
        if dtype == torch.bool and tensor.ndim:
            values[..., : round(self._due * tensor.shape[-1])] = True
        return values


class _Functions(TorchFunctionMode):
    """Sees what no dispatch mode sees: lists that become tensors; on meta, attention, which has no kernel there."""

    def __init__(self, calls: DeviceCalls) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            query, key, value = attention_tensors(args, kwargs)
            if query.is_meta:
                out = query.new_empty(*query.shape[:-1], value.shape[-1])
                self._calls.launch([query, key, value, out])
                return out
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and self._calls.is_on_device(args[0]):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            self._calls.counts.copies += sum(isinstance(one, list) for one in index)
        out = func(*args, **kwargs)
        if func in _MAKES_TENSORS and self._calls.is_on_device(out):
            values = args[1] if func is torch.Tensor.new_tensor else args[0]
            self._calls.counts.copies += not isinstance(values, torch.Tensor)  # a tensor is copied by an operator
        return out


@cache
def _is_made_of_others(func: Any) -> bool:
    return func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, torch.Tensor)]


def _has_kernel(func: Any) -> bool:
    return not func.is_view and func._schema.name.removeprefix("aten::").lstrip("_") not in (*_ALLOCATES, "unsafe_view")
