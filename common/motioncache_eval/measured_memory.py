"""What a video takes of a GPU's memory, measured: the real code has run at the real size on meta tensors."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from motioncache.decision import Call, Decision, Memory
from motioncache.limits import check_limits
from motioncache.parallel import Parallel
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape
from motioncache.registry import kv_storage
from motioncache_eval.allocations import WEIGHTS, Allocations
from motioncache_eval.settings import require

DTYPES = ("float32", "bfloat16", "float16")

OUTPUTS, KV, TEXT_KV = "residuals or velocities", "K/V", "text K/V"

_IN_EACH_LAYER = {
    "KVCache.__init__": KV,
    "KeptAsIs.__init__": KV,
    "KeptInInt8.__init__": KV,
    "project_text": TEXT_KV,
    "Attention._text_keys_values": TEXT_KV,
}
"""What outlives a layer, and is there for each, by the function that allocates it."""

_PARTS = {
    **_IN_EACH_LAYER,
    "KeptOnHost.fetch": KV,
    "ChunkStore._put_together": KV,
    "LayeredKVCache.__init__": KV,
    "Engine.complete": OUTPUTS,
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
        kv: how keys and values are kept: `model`, `int8` or `host`; null takes the preset's.
        split_guidance: compute the CFG branches one after another.
        synchronous: denoise all chunks at once, as `ar_step=0` does; else they finish one after another.
        weights: `int8` for a transformer whose linear layers were quantised; null keeps the dtype. Each layer is
            counted in its dtype while it is applied.
        gpus: GPUs that make a video together, of which the first is measured.
        parallel: what they divide: `cfg`, `ulysses` or `cfg+ulysses`; null takes `ulysses`.
    """

    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    base_num_frames: int | None = None
    preset: str | None = None
    dtype: str | None = None
    cpu_offload: bool = False
    kv: str | None = None
    split_guidance: bool = False
    synchronous: bool = False
    weights: str | None = None
    gpus: int = 1
    parallel: str | None = None

    def __post_init__(self) -> None:
        check_limits(asdict(self), optional=("height", "width", "num_frames", "base_num_frames"))
        if self.kv is not None:
            kv_storage(self.kv)
        for name in ("height", "width"):
            value = getattr(self, name)
            require(name, value, value is None or value % 16 == 0, "a multiple of 16")
        require("dtype", self.dtype, self.dtype in (None, *DTYPES), f"null, {', '.join(DTYPES)}")
        require("weights", self.weights, self.weights in (None, "int8"), "null, int8")
        require("gpus", self.gpus, self.gpus >= 1, "1 or more")
        require("parallel", self.parallel, self.parallel is None or self.gpus > 1, "null where gpus=1")
        if self.parallel is not None:
            Parallel.of(self.parallel)

    @property
    def divided(self) -> Parallel:
        """What several GPUs divide."""
        return Parallel.of(self.parallel or Parallel.ulysses)

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
        ways: settings that take less memory, the mildest first; the first one is none.
        presets: settings with other presets, for the table in the documents.
    """

    names: tuple[str, ...]
    frames_key: str
    lengths: tuple[int, ...]
    ways: tuple[Mapping[str, Any], ...] = ({},)
    presets: tuple[Mapping[str, Any], ...] = ()


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
        flags: the settings that were chosen of `Released.ways`, as texts `key=value`.
        weights: bytes by model.
        stays: models that stay on the GPU with `cpu_offload`.
        on_host: models that are on the GPU only while they are needed, if ever.
    """

    name: str
    frames: int
    weights: Mapping[str, int]
    stages: tuple[Stage, ...]
    stays: tuple[str, ...] = ()
    on_host: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def held(self, stage: Stage, offload: bool) -> set[str]:
        """The models that are on the GPU during a stage."""
        return {*(self.stays if offload else {*self.weights} - {*self.on_host}), *stage.needs}

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
        texts = {name: tuple(values.get(name, ())) for name in ("stays", "on_host", "flags")}
        return cls(**{**values, "stages": stages, **texts})


def flags_of(way: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings as a command line takes them."""
    return tuple(f"{key}={str(value).lower()}" for key, value in way.items())


class ComputesAll(Policy):
    """Computes everything, and keeps the outputs that another policy would keep: the worst case of each.

    Args:
        by_token: after the first step, chunks are computed token by token, all but one of each.
    """

    def __init__(self, history: int, *, by_token: bool = False) -> None:
        self.history = history
        self._by_token = by_token

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [Decision(call=call, phase=Phase.uncached, due=self._due(call)) for call in calls]

    def _due(self, call: Call) -> bool | torch.Tensor:
        return torch.arange(call.tokens) > 0 if self._by_token and call.step > 0 else True


def measure(
    stage: str, needs: Mapping[str, nn.Module], run: Callable[[], object], device: str = "meta", layers: float = 1
) -> Stage:
    """Run a stage with its models, and count what is alive at its peak.

    Args:
        layers: how many layers a layer stands for: all are alike, and a few of them run in a fraction of the time.
    """
    with Allocations(device, dict.fromkeys(_IN_EACH_LAYER, layers)) as allocations, torch.no_grad():
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
