"""What `motioncache speed` counts of a released model, call by call, on meta tensors."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from motioncache.decision import Call, Decision, Memory
from motioncache.limits import check_limits
from motioncache.policies.policy import Policy
from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace
from motioncache_eval.device_calls import Counts, DeviceCalls
from motioncache_eval.settings import require
from motioncache_eval.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedSettings:
    """What `motioncache speed` counts.

    Args:
        height, width, num_frames: of the video; null takes what the model was made for.
        preset: name of a preset of the model, or path of a YAML file with a policy; null takes the one that the presets
            file names.
        due: share of a chunk's tokens that are due wherever the policy decides token by token. What it would decide
            depends on values, of which there are none here.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    preset: str | None = None
    due: float = 0.5

    def __post_init__(self) -> None:
        check_limits(asdict(self), optional=("height", "width", "num_frames"))
        for name in ("height", "width"):
            value = getattr(self, name)
            require(name, value, value is None or value % 16 == 0, "a multiple of 16")
        require("due", self.due, 0 <= self.due <= 1, "between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One model call.

    Attributes:
        phases: of the chunks that it handles.
        computed: share of their tokens that ran through the model.
    """

    phases: tuple[str, ...]
    computed: float
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The peak figures of a GPU, by the maker's data sheet.

    Attributes:
        flops: per second, of bfloat16 matrix products without sparsity.
        bandwidth: bytes of its memory per second.
    """

    name: str
    flops: float
    bandwidth: float
    source: str


CARDS = (
    Card(name="RTX 4090", flops=165.2e12, bandwidth=1.008e12, source="NVIDIA Ada GPU architecture whitepaper, 2.1"),
    Card(name="A100 80GB", flops=312e12, bandwidth=2.039e12, source="NVIDIA A100 data sheet, SXM"),
    Card(name="H100", flops=989.4e12, bandwidth=3.35e12, source="NVIDIA H100 data sheet, SXM"),
    Card(name="H200", flops=989.4e12, bandwidth=4.8e12, source="NVIDIA H200 data sheet, SXM"),
)


@runtime_checkable
class CountsCalls(Protocol):
    """A model's package that can be counted; see `JobModel`."""

    def count_calls(self, name: str, settings: SpeedSettings) -> list[ModelCall]:
        """Every model call of a short video of a released model."""
        ...


class EverySecond(Policy):
    """Reuses every second iteration whole: stands in for a plan, which is made of values."""

    def __init__(self, history: int) -> None:
        self.history = history

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [
            Decision(call=call, phase=Phase.forecast, due=call.step == 0 or call.iteration % 2 == 0) for call in calls
        ]


class CallCounter:
    """Counts the calls of a function that makes model calls.

    Args:
        trace: the records of the video so far.
        due: see `SpeedSettings`.
    """

    def __init__(self, trace: Callable[[], Trace], due: float, device: str = "meta") -> None:
        self.calls: list[ModelCall] = []
        self._trace = trace
        self._due = due
        self._device = device

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        before = len(self._trace().records)
        with DeviceCalls(self._device, due=self._due) as device:
            out = function(*args, **kwargs)
        records = self._trace().records[before:]
        if records:
            self.calls.append(_model_call(records, device.counts))
        return out


def _model_call(records: Sequence[Record], counts: Counts) -> ModelCall:
    phases = tuple(dict.fromkeys(record.phase.value for record in records))
    share = sum(record.computed for record in records) / sum(record.tokens for record in records)
    return ModelCall(phases=phases, computed=share, counts=counts)


def kinds_of(calls: Sequence[ModelCall]) -> list[ModelCall]:
    """The costliest call of each kind, in the order of their first ones; the first call opens the window."""
    kinds: dict[tuple[Any, ...], ModelCall] = {}
    for call in calls[1:]:
        key = call.phases, round(call.computed, 2)
        if key not in kinds or call.counts.launches > kinds[key].counts.launches:
            kinds[key] = call
    return list(kinds.values())


def count_table(calls: Sequence[ModelCall]) -> Table:
    """What each kind of call asks of the device."""
    return Table(
        title="Model calls",
        header=("phases", "computed", "launches", "waits", "copies", "TFLOPs", "GB"),
        rows=[
            (
                ", ".join(call.phases),
                f"{call.computed:.0%}",
                str(call.counts.launches),
                str(call.counts.waits),
                str(call.counts.copies),
                f"{call.counts.flops / 1e12:.2f}",
                f"{call.counts.bytes / 1e9:.1f}",
            )
            for call in calls
        ],
    )


def roofline(call: ModelCall, card: Card) -> str:
    """How fast a card can be at a call at best, and what bounds it."""
    compute, memory = call.counts.flops / card.flops, call.counts.bytes / card.bandwidth
    bound = "matrix products" if compute >= memory else "memory"
    seconds = max(compute, memory)
    return f"{card.name:10s} {1000 * seconds:8.1f} ms, bound by {bound} ({card.source})"
