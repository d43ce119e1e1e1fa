"""What a video takes of a GPU's memory, measured: the real code has run at the real size on meta tensors."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from motioncache.decision import Call, Decision, Memory
from motioncache.limits import check_limits
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape
from motioncache_eval.allocations import WEIGHTS, Allocations
from motioncache_eval.settings import require

DTYPES = ("float32", "bfloat16", "float16")

OUTPUTS, KV, TEXT_KV = "residuals or velocities", "K/V", "text K/V"

_PARTS = {
    "KVCache.__init__": KV,
    "KVCache.grow": KV,
    "Engine.complete": OUTPUTS,
    "text_keys_values": TEXT_KV,
    "Attention._text_keys_values": TEXT_KV,
}
"""The parts that outlive a model call, by the function that allocates them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """What `motioncache memory` measures.

    Args:
        height, width, num_frames: of the video; null takes what the model was made for.
        base_num_frames: frames of a window of SkyReels-V2; null takes 97.
        preset: name of a preset of the model, or path of a YAML file with a policy; null takes the one that the presets
            file names.
        dtype: `float32`, `bfloat16` or `float16`; null takes the model's.
        cpu_offload: keep only that part of the model on the GPU that is needed at the time.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    base_num_frames: int | None = None
    preset: str | None = None
    dtype: str | None = None
    cpu_offload: bool = False

    def __post_init__(self) -> None:
        check_limits(asdict(self), optional=("height", "width", "num_frames", "base_num_frames"))
        for name in ("height", "width"):
            value = getattr(self, name)
            require(name, value, value is None or value % 16 == 0, "a multiple of 16")
        require("dtype", self.dtype, self.dtype in (None, *DTYPES), f"null, {', '.join(DTYPES)}")

    def filled(self, **defaults: Any) -> "MemorySettings":
        """The settings, with defaults in place of nulls."""
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """Released models of one kind.

    Attributes:
        names: what `motioncache memory` calls them.
        frames_key: the setting that says how many frames K/V are kept for.
        lengths: values of it, from the longest to the shortest.
    """

    names: tuple[str, ...]
    frames_key: str
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The peak of one stage of making a video.

    Attributes:
        needs: the models that have to be on the GPU.
        parts: bytes at the peak besides weights, by part, or by the module or function that allocated them.
    """

    name: str
    needs: tuple[str, ...]
    parts: Mapping[str, int]

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMemory:
    """Peaks of the stages of making a video.

    Attributes:
        name: the model and the size of the video.
        frames: the value of `Released.frames_key`.
        weights: bytes by model.
        stays: models that stay on the GPU with `cpu_offload`.
        on_host: models that are never on the GPU.
    """

    name: str
    frames: int
    weights: Mapping[str, int]
    stages: tuple[Stage, ...]
    stays: tuple[str, ...] = ()
    on_host: tuple[str, ...] = ()

    def held(self, stage: Stage, offload: bool) -> set[str]:
        """The models that are on the GPU during a stage."""
        return {*self.stays, *stage.needs} if offload else {*self.weights} - {*self.on_host}

    def stage_total(self, stage: Stage, *, offload: bool) -> int:
        """Bytes of a stage, with the weights that are on the GPU then."""
        return stage.bytes + sum(self.weights[name] for name in self.held(stage, offload))

    def peak(self, *, offload: bool) -> int:
        """The most bytes of any stage."""
        return max(self.stage_total(stage, offload=offload) for stage in self.stages)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MeasuredMemory":
        """The inverse of `dataclasses.asdict`, also after JSON."""
        stages = tuple(Stage(**{**stage, "needs": tuple(stage["needs"])}) for stage in values["stages"])
        return cls(**{**values, "stages": stages, "stays": tuple(values["stays"]), "on_host": tuple(values["on_host"])})


class ComputesAll(Policy):
    """Computes everything, and keeps the outputs that another policy would keep: the worst case of each."""

    def __init__(self, history: int) -> None:
        self.history = history

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [Decision(call=call, phase=Phase.uncached, due=True) for call in calls]


def measure(stage: str, needs: Mapping[str, nn.Module], run: Callable[[], object], device: str = "meta") -> Stage:
    """Run a stage with its models, and count what is alive at its peak."""
    with Allocations(device) as allocations, torch.no_grad():
        allocations.hold(tensors_of(needs.values()))
        run()
    parts: Counter[str] = Counter()
    for name, size in allocations.at_peak.items():
        parts[_PARTS.get(name, name)] += size
    found = {name: size for name, size in parts.most_common() if size and name != WEIGHTS}
    return Stage(name=stage, needs=tuple(needs), parts=found)


def tensors_of(models: Iterable[nn.Module]) -> list[torch.Tensor]:
    """Parameters and buffers."""
    return [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]


def size_of(model: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(tensor.nbytes for tensor in tensors_of([model]))
