"""The public functions: turn a cache on and off on a pipeline, and report what it did."""

from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from motioncache.engine import Engine
from motioncache.errors import MotionCacheError
from motioncache.presets import Policies, PolicyConfig, load_config
from motioncache.summary import Cost, Summary, summarise
from motioncache.trace import Trace

_ATTRIBUTE = "_motioncache"


class Hook(Protocol):
    """A cache on one pipeline; made by an adapter."""

    @property
    def engine(self) -> Engine: ...

    @property
    def config(self) -> PolicyConfig: ...

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


def enable_cache(pipeline: object, preset: str | PolicyConfig | Path | None = None) -> None:
    """Turn the cache on for this pipeline, until `disable_cache`.

    Args:
        pipeline: a pipeline that an installed adapter serves; it is hooked from outside, on this instance only.
        preset: a name from the model's presets, the path of a YAML file (`.yaml` or `.yml`), a config object, or None
            for the preset that the model's presets file chooses.

    Raises:
        MotionCacheError: if no adapter serves the pipeline, the cache is already on, or the preset is unknown.
    """
    if getattr(pipeline, _ATTRIBUTE, None) is not None:
        raise MotionCacheError("the cache is already on for this pipeline: call disable_cache first")
    adapter = find_adapter(pipeline)
    hook = adapter.hook(pipeline, resolve_preset(adapter, preset))
    setattr(pipeline, _ATTRIBUTE, hook)


def disable_cache(pipeline: object) -> None:
    """Put the pipeline back exactly as it was and free all that was cached."""
    hook = get_hook(pipeline)
    delattr(pipeline, _ATTRIBUTE)
    hook.undo()


def summary(pipeline: object) -> Summary:
    """What the cache did in the pipeline's last video; printable."""
    hook = get_hook(pipeline)
    return summarise(hook.engine.trace, hook.cost())


def last_trace(pipeline: object) -> Trace:
    """What was computed in the pipeline's last video: a record per iteration, chunk and CFG branch."""
    return get_hook(pipeline).engine.trace


class Statistics:
    """What `cached` yields: reads the summary of the last video whenever it is asked, and keeps it afterwards."""

    def __init__(self, pipeline: object) -> None:
        self._pipeline = pipeline
        self._last: Summary | None = None

    def summary(self) -> Summary:
        """The summary of the last video."""
        if self._last is None:
            return summary(self._pipeline)
        return self._last

    def freeze(self) -> None:
        """Keep the summary for when the cache is off."""
        self._last = summary(self._pipeline)

    def __str__(self) -> str:
        return str(self.summary())


@contextmanager
def cached(pipeline: object, preset: str | PolicyConfig | Path | None = None) -> Generator[Statistics]:
    """The cache for the length of a `with` block; undone on an exception too."""
    enable_cache(pipeline, preset)
    statistics = Statistics(pipeline)
    try:
        yield statistics
    finally:
        try:
            statistics.freeze()
        finally:
            disable_cache(pipeline)


def get_hook(pipeline: object) -> Hook:
    """The cache of a pipeline, for tools that look inside."""
    hook: Hook | None = getattr(pipeline, _ATTRIBUTE, None)
    if hook is None:
        raise MotionCacheError("the cache is not on for this pipeline: call enable_cache first")
    return hook


def find_adapter(pipeline: object) -> Adapter:
    """The installed adapter that serves a pipeline."""
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


def resolve_preset(adapter: Adapter, preset: str | PolicyConfig | Path | None) -> PolicyConfig:
    """The policy that a preset stands for, see `enable_cache`."""
    policies = adapter.policies
    if isinstance(preset, Path) or (isinstance(preset, str) and preset.endswith((".yaml", ".yml"))):
        return load_config(preset, policies=policies)
    if isinstance(preset, str) or preset is None:
        return load_config(adapter.presets(), preset, policies)
    if not isinstance(preset, tuple(policies.values())):
        allowed = ", ".join(config.__name__ for config in policies.values())
        raise MotionCacheError(f"a {type(preset).__name__} does not fit {adapter.name}; allowed: {allowed}")
    return preset
