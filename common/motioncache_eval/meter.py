"""Measures what a model does during a call: its time, its FLOPs, the memory at its peak."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)


class Meter:
    """Watches some methods of a model, of this instance only, for the length of a `with` block.

    Args:
        methods: names of methods that do not call each other.
        count: count their FLOPs too (1 multiply-add = 2), which takes time.

    Attributes:
        flops: of matrix products, convolutions and attention.
    """

    def __init__(self, model: object, methods: Sequence[str], *, device: str, count: bool = False) -> None:
        self._model = model
        self._methods = methods
        self._device = device
        self._count = count
        self._marks: list[tuple[Any, Any]] = []
        self._before: dict[str, Any] = {}
        self.flops = 0

    def __enter__(self) -> "Meter":
        for name in self._methods:
            if name in vars(self._model):
                self._before[name] = vars(self._model)[name]
            setattr(self._model, name, partial(self._watched, getattr(self._model, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._methods:
            if name in self._before:
                setattr(self._model, name, self._before[name])
            else:
                delattr(self._model, name)

    @property
    def seconds(self) -> float:
        """Time of all calls; on a GPU between events on its stream."""
        if self._device.startswith("cuda"):
            torch.cuda.synchronize(self._device)
            return sum(start.elapsed_time(end) for start, end in self._marks) / 1000
        return sum(end - start for start, end in self._marks)

    def _watched(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            counter = stack.enter_context(FlopCount()) if self._count else None
            start = self._mark()
            result = method(*args, **kwargs)
            self._marks.append((start, self._mark()))
        if counter is not None:
            self.flops += counter.flops
        return result

    def _mark(self) -> Any:
        if not self._device.startswith("cuda"):
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class FlopCount(TorchDispatchMode):
    """Counts FLOPs by torch's own formulas, and those of the CPU's fused attention, which torch leaves out.

    torch's counter does the same and keeps track of modules too, which ends in a recursion where a cache links them in
    a circle.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


def _fused_attention(query: Any, key: Any, value: Any, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


_FORMULAS = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention}


class PeakMemory:
    """The most memory within a `with` block: on a GPU what torch allocated, on Linux the process's resident set.

    Attributes:
        bytes: None where it cannot be known.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        if self._device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device)
        elif _CLEAR.exists():
            _CLEAR.write_text(_RESET_PEAK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.startswith("cuda"):
            self.bytes = torch.cuda.max_memory_allocated(self._device)
        elif _STATUS.exists():
            peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
            self.bytes = 1024 * int(peak.split()[1])
