"""Adapters: what a model's package brings so that its pipelines can be hooked."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from motioncache.config import KVStorage, PolicyConfig
from motioncache.engine import Engine
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.field_types import shown
from motioncache.forecast.budget import ForecastConfig
from motioncache.parallel import Parallel
from motioncache.presets import Policies, load_config, parse_policy
from motioncache.summary import Cost

FORECAST = "forecast"
"""The preset that a target alone chooses."""


class Hook(Protocol):
    """A cache on one pipeline; made by an adapter.

    Attributes:
        calibration: what velocities are forecast with, in words; None for policies that forecast nothing.
    """

    @property
    def engine(self) -> Engine: ...

    @property
    def config(self) -> PolicyConfig: ...

    @property
    def calibration(self) -> str | None: ...

    def cost(self) -> Cost: ...

    def undo(self) -> None: ...


class Adapter(Protocol):
    """What a model's package registers under the entry point group `motioncache.adapters`."""

    @property
    def name(self) -> str: ...

    def serves(self, pipeline: object) -> bool: ...

    @property
    def policies(self) -> Policies: ...

    def presets(self) -> Path: ...

    def hook(self, pipeline: object, config: PolicyConfig) -> Hook: ...

    def stream(self, pipeline: Any, *args: Any, **call: Any) -> Generator[Any]: ...


@runtime_checkable
class ParallelAdapter(Protocol):
    """An adapter whose model can be divided among processes."""

    def hook_parallel(self, pipeline: object, config: PolicyConfig, parallel: Parallel) -> Hook: ...

    def uncached_parallel(self, pipeline: object, parallel: Parallel) -> AbstractContextManager[object]:
        """Sample without a cache on several processes, for the length of a `with` block."""
        ...


class PipelineAdapter:
    """What adapters have in common: they serve some classes of pipelines, with presets beside their package.

    Attributes:
        pipelines: the classes that are served.
        package: folder of the model's package.
    """

    name: str
    policies: Policies
    pipelines: tuple[type, ...]
    package: Path

    def serves(self, pipeline: object) -> bool:
        """Whether a pipeline is one of ours."""
        return isinstance(pipeline, self.pipelines)

    def presets(self) -> Path:
        """The model's presets file."""
        return presets_file(self.package)

    def stream(self, pipeline: Any, *args: Any, **call: Any) -> Generator[Any]:
        """Call the pipeline, and yield the frames of each chunk as soon as it is clean."""
        raise MotionCacheError(f"videos of {self.name} cannot be streamed: call the pipeline, which returns them whole")


def find_adapter(pipeline: object) -> Adapter:
    """The installed adapter that serves a pipeline.

    Raises:
        MotionCacheError: if none does.
    """
    adapters = installed_adapters()
    for adapter in adapters:
        if adapter.serves(pipeline):
            return adapter
    known = ", ".join(adapter.name for adapter in adapters) or "none"
    raise MotionCacheError(
        f"no adapter serves a {type(pipeline).__name__}; installed adapters: {known}. "
        "A cache that hooks nothing would change nothing"
    )


def installed_adapters() -> list[Adapter]:
    """All adapters that installed packages register."""
    found = sorted(entry_points(group="motioncache.adapters"), key=lambda point: point.name)
    return [point.load()() for point in found]


def presets_file(package: Path) -> Path:
    """The YAML file of a model's presets: beside its package in the repository, inside it in a wheel."""
    inside = package / "addconfig" / "config.yaml"
    return inside if inside.is_file() else package.parent / "addconfig" / "config.yaml"


Preset = str | PolicyConfig | Path | Mapping[str, Any] | None
"""What a user may choose a policy by, see `motioncache.enable_cache`."""


def resolve_preset(
    adapter: Adapter,
    preset: Preset,
    target_speedup: float | None = None,
    *,
    allow_foreign_calibration: bool = False,
    kv: KVStorage | str | None = None,
    split_guidance: bool = False,
) -> PolicyConfig:
    """The policy that a preset and a target stand for, see `motioncache.enable_cache`."""
    config = _find_policy(adapter, FORECAST if preset is None and target_speedup is not None else preset)
    kept = config.kv if kv is None else kv_storage(kv)
    config = replace(config, kv=kept, split_guidance=split_guidance or config.split_guidance)
    if isinstance(config, ForecastConfig):
        target = config.target_speedup if target_speedup is None else target_speedup
        allowed = allow_foreign_calibration or config.allow_foreign_calibration
        return replace(config, target_speedup=target, allow_foreign_calibration=allowed)
    if target_speedup is not None:
        chosen = f"preset {preset!r}" if isinstance(preset, str) else f"a {type(config).__name__}"
        raise ConfigError(
            f"target_speedup belongs to the policy forecast, and not to {chosen}: pass preset='forecast', or leave "
            "target_speedup out"
        )
    return config


def kv_storage(value: KVStorage | str) -> KVStorage:
    """How to keep keys and values, by name.

    Raises:
        ConfigError: for another name; it says which there are.
    """
    names = [one.value for one in KVStorage]
    if value not in (*KVStorage, *names):
        raise ConfigError(f"kv: {shown(value)} is not allowed; allowed: {', '.join(names)}")
    return KVStorage(value)


def _find_policy(adapter: Adapter, preset: Preset) -> PolicyConfig:
    policies = adapter.policies
    if isinstance(preset, Mapping):
        return parse_policy(preset, where="preset", policies=policies)
    if isinstance(preset, Path) or (isinstance(preset, str) and preset.endswith((".yaml", ".yml"))):
        return load_config(preset, policies=policies)
    if isinstance(preset, str) or preset is None:
        return load_config(adapter.presets(), preset, policies)
    if type(preset) not in policies.values():
        allowed = ", ".join(config.__name__ for config in policies.values())
        raise MotionCacheError(f"a {type(preset).__name__} does not fit {adapter.name}; allowed: {allowed}")
    return preset
