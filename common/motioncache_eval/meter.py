"""Measures the time, the FLOPs and the peak memory of a model's calls."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import sdpa_flop_count

from motioncache.errors import MotionCacheError
from motioncache.foreign import Onlooker

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)


class Meter:
    """Measures some methods of one instance of a model inside a `with` block.

    Args:
        methods: names of methods that do not call each other.

    Attributes:
        flops: FLOPs of matrix products, convolutions and attention; a multiply-add counts as 2.
    """

    def __init__(self, model: object, methods: Sequence[str], *, device: str) -> None:
        self._model = model
        self._methods = methods
        self._device = device
        self._marks: list[tuple[Any, Any]] = []
        self._shadowed: dict[str, Any] = {}
        self.flops = 0

    def __enter__(self) -> "Meter":
        for name in self._methods:
            if name in vars(self._model):
                self._shadowed[name] = vars(self._model)[name]
            setattr(self._model, name, Onlooker(getattr(self._model, name), self._measured))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._methods:
            if name in self._shadowed:
                setattr(self._model, name, self._shadowed[name])
            else:
                delattr(self._model, name)

    @property
    def seconds(self) -> float:
        """Time of all calls; on a GPU, the time between events on its stream."""
        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)
            return sum(start.elapsed_time(end) for start, end in self._marks) / 1000
        return sum(end - start for start, end in self._marks)

    def _measured(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with FlopCount() as counter:
            start = self._mark()
            result = method(*args, **kwargs)
            self._marks.append((start, self._mark()))
        self.flops += counter.flops
        return result

    def _mark(self) -> Any:
        if not self._device.startswith("cuda"):
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class FlopCount(TorchFunctionMode):
    """Counts the FLOPs of matrix products, convolutions and attention as Python calls them.

    torch's own counter looks at every operator that these call. That takes a fifth of the time of a small model on a
    CPU, and leaves out the CPU's fused attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(func)
        if formula is not None:
            self.flops += formula(out, *args, **(kwargs or {}))
        return out


def _product(out: torch.Tensor, input: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * out.numel() * input.shape[-1]


def _sum_and_product(out: torch.Tensor, input: torch.Tensor, mat1: torch.Tensor, *_: Any, **__: Any) -> int:
    return _product(out, mat1)


def _convolution(out: torch.Tensor, input: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * out.numel() * weight[0].numel()


def _attention(
    out: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _unknown(*_: Any, **__: Any) -> int:
    raise MotionCacheError(
        "FLOPs of einsum and of multi_head_attention_forward cannot be counted; use matmul and "
        "scaled_dot_product_attention in the model"
    )


def _einsum(out: torch.Tensor, equation: object, *operands: Any) -> int:
    """An outer product sums nothing: like all products value by value, it is not counted."""
    inputs, arrow, result = equation.partition("->") if isinstance(equation, str) else ("", "", "")
    return 0 if arrow and set(inputs) - {",", " "} <= set(result) else _unknown()


_FORMULAS: dict[Any, Callable[..., int]] = {
    functional.linear: _product,
    **dict.fromkeys((torch.mm, torch.bmm, torch.matmul), _product),
    **dict.fromkeys((torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__), _product),
    **dict.fromkeys((torch.addmm, torch.baddbmm), _sum_and_product),
    **dict.fromkeys((functional.conv1d, functional.conv2d, functional.conv3d), _convolution),
    functional.scaled_dot_product_attention: _attention,
    torch.einsum: _einsum,
    functional.multi_head_attention_forward: _unknown,
}
"""The FLOPs of a function from its result and its arguments, which have torch's names, since callers may use them."""


class PeakMemory:
    """The peak of memory inside a `with` block: on a GPU that of torch's allocations, on Linux that of the process.

    Attributes:
        bytes: the peak; None on other systems.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        if self._device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device)
        elif _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text(_RESET_PEAK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.startswith("cuda"):
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        elif _STATUS.exists():
            peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            self.bytes = 1024 * int(peak.split()[1])
