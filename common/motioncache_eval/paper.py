"""What `motioncache speed setting=paper` measures: videos at the paper's settings, of models with random weights.

What a policy would decide depends on values, which random weights don't have. So a stand-in computes the share of the
tokens that the published costs come to.
"""

import json
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape
from motioncache_eval.device_calls import Counts, DeviceCalls
from motioncache_eval.settings import require
from motioncache_eval.table import Table

VANILLA, EXACT, SLOW, FAST, FORECAST = "vanilla", "exact", "slow", "fast", "forecast"
METHODS = (VANILLA, EXACT, SLOW, FAST, FORECAST)

NAMES = tuple(field.name for field in fields(Counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSettings:
    """What `motioncache speed setting=paper` measures.

    Args:
        setting: `paper`, the settings of the published measurements.
        device: `cuda` takes the time of videos with random weights; `meta` counts what they ask of a GPU. null takes
            `cuda` where there is one.
        output: JSON file that the results are written to.
    """

    setting: str = "paper"
    device: str | None = None
    output: str = "outputs/speed/paper.json"

    def __post_init__(self) -> None:
        require("setting", self.setting, self.setting == "paper", "paper")
        require("device", self.device, self.device in (None, "meta", "cuda"), "null, meta, cuda")

    @property
    def chosen_device(self) -> str:
        """Where the videos are sampled."""
        return self.device or ("cuda" if torch.cuda.is_available() else "meta")


@runtime_checkable
class SamplesPaper(Protocol):
    """A model's package that samples the paper's video; see `JobModel`."""

    @property
    def paper(self) -> "PaperVideo":
        """The video."""
        ...

    def sample_paper(self, method: str, device: str) -> Callable[[], object]:
        """Prepare the video of a method with random weights; what comes back samples it."""
        ...

    def count_paper(self, method: str, layers: "LayerCounts") -> Callable[[], object]:
        """The same on meta tensors, with a transformer of one layer; `layers` counts its calls."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperVideo:
    """The video that the paper measured.

    Attributes:
        title: model and settings.
        layers: of the transformer.
        shares: of the tokens that are computed after the warm-up, by method.
        published: seconds, by method.
    """

    title: str
    layers: int
    shares: dict[str, float]
    published: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperResult:
    """What a video of a method took.

    Attributes:
        counts: what it asked of the device.
        seconds: on a GPU; None where it was only counted.
    """

    model: str
    method: str
    counts: Counts
    seconds: float | None = None


class LayerCounts:
    """Counts model calls on meta tensors: one layer stands for all, and a pass like an earlier one is not made again.

    Args:
        layers: how many the one stands for.
        due: see `DeviceCalls`.
    """

    def __init__(self, layers: int, due: float) -> None:
        self._layers = layers
        self._due = due
        self._calls = DeviceCalls("meta", due=due)
        self._made, self._inside, self._skipped = Counts(), Counts(), Counts()
        self._known: dict[Hashable, Counts] = {}

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count a model call."""
        with DeviceCalls("meta", due=self._due) as self._calls:
            out = function(*args, **kwargs)
        add_counts(self._made, self._calls.counts)
        return out

    def run(self, key: Hashable, run: Callable[[], Any], skip: Callable[[], Any], *, always: bool = False) -> Any:
        """Make a pass through the layer within a model call, or what stands for its result.

        Args:
            key: what the pass asks depends on nothing else.
            always: something later needs what the pass leaves.
        """
        if key in self._known and not always:
            add_counts(self._inside, self._known[key])
            add_counts(self._skipped, self._known[key])
            return skip()
        before, out = self._calls.so_far(), run()
        asked = self._calls.so_far()
        add_counts(asked, before, -1)
        self._known[key] = asked
        add_counts(self._inside, asked)
        return out

    def total(self) -> Counts:
        """What the calls ask for with all layers."""
        total = Counts()
        for counts, times in ((self._made, 1), (self._skipped, 1), (self._inside, self._layers - 1)):
            add_counts(total, counts, times)
        return total


def add_counts(total: Counts, counts: Counts, times: int = 1) -> None:
    """Add so many times what was counted."""
    for name in NAMES:
        setattr(total, name, getattr(total, name) + times * getattr(counts, name))


class Share(Policy):
    """Computes the same share of every chunk after its warm-up, token by token; tokens are evenly spaced.

    Args:
        warmup: last denoise step of a chunk that is computed whole.
    """

    history = 1

    def __init__(self, share: float, warmup: int, device: str) -> None:
        self._share = share
        self._warmup = warmup
        self._mask = cache(lambda tokens: spaced(tokens, share).to(device))

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [self._decide(call) for call in calls]

    def _decide(self, call: Call) -> Decision:
        if call.step <= self._warmup:
            return Decision(call=call, phase=Phase.warmup, due=True)
        return Decision(call=call, phase=Phase.token, due=self._mask(call.tokens))


class Planned(Policy):
    """Computes a share of the iterations, evenly spaced, and those at which a chunk begins: stands in for a plan."""

    def __init__(self, share: float, history: int, iterations: int = 1000) -> None:
        self.history = history
        self._chosen: list[bool] = spaced(iterations, share).tolist()

    def computes_together(self, starts: Sequence[int]) -> bool:
        return True

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        due = any(call.step == 0 or self._chosen[call.iteration % len(self._chosen)] for call in calls)
        return [Decision(call=call, phase=Phase.forecast, due=due) for call in calls]


def spaced(count: int, share: float) -> torch.Tensor:
    """A mask `[count]` that is true at an evenly spaced share of its places, the first among them."""
    steps = (torch.arange(count + 1, dtype=torch.float64) * share).ceil()
    return steps.diff() > 0


def measure_paper(model: SamplesPaper, device: str) -> Iterable[PaperResult]:
    """Every method, in turn."""
    for method in METHODS:
        counts = _counts(model, method)
        seconds = None if device == "meta" else _seconds(model, method, device)
        yield PaperResult(model=model.paper.title, method=method, counts=counts, seconds=seconds)


def _counts(model: SamplesPaper, method: str) -> Counts:
    layers = LayerCounts(model.paper.layers, model.paper.shares.get(method, 1.0))
    model.count_paper(method, layers)()
    return layers.total()


def _seconds(model: SamplesPaper, method: str, device: str) -> float:
    sample = model.sample_paper(method, device)
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    sample()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def write_paper(path: Path, device: str, results: Sequence[PaperResult]) -> None:
    """The results as JSON."""
    name = torch.cuda.get_device_name() if device == "cuda" else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"gpu": name, "results": [asdict(one) for one in results]}, indent=1) + "\n")


def read_paper(path: Path) -> tuple[str | None, list[PaperResult]]:
    """The GPU and the results of a file that `write_paper` has written."""
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored["gpu"], [PaperResult(**{**one, "counts": Counts(**one["counts"])}) for one in stored["results"]]


def paper_table(gpu: str | None, results: Sequence[PaperResult]) -> Table:
    """A row for each model and method, compared with the model's vanilla; times where a GPU was there."""
    header = ("", "method", "launches", "waits", "PFLOPs", "fewer FLOPs")
    timed = ("seconds", "speed-up", "realised over counted") if gpu else ()
    vanilla = {one.model: one for one in results if one.method == VANILLA}
    return Table(
        title=f"Paper's settings{f' on {gpu}' if gpu else ''}",
        header=(*header, *timed),
        rows=[_row(one, vanilla[one.model]) for one in results],
    )


def _row(one: PaperResult, vanilla: PaperResult) -> tuple[str, ...]:
    counts = one.counts
    fewer = vanilla.counts.flops / counts.flops
    row = (
        one.model,
        one.method,
        f"{counts.launches:,}",
        f"{counts.waits:,}",
        f"{counts.flops / 1e15:.1f}",
        f"{fewer:.2f}x",
    )
    if one.seconds is None or vanilla.seconds is None:
        return row
    gain = vanilla.seconds / one.seconds
    return (*row, f"{one.seconds:.0f}", f"{gain:.2f}x", f"{gain / fewer:.2f}")
