"""The public functions: turn a cache on and off on a pipeline, and report what it did."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from motioncache.config import KVStorage, PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.parallel import Parallel
from motioncache.registry import Adapter, Hook, ParallelAdapter, Preset, find_adapter, resolve_preset
from motioncache.summary import Summary, summarise
from motioncache.trace import Trace

_ATTRIBUTE = "_motioncache"


def enable_cache(
    pipeline: object,
    preset: Preset = None,
    *,
    target_speedup: float | None = None,
    allow_foreign_calibration: bool = False,
    kv: KVStorage | str | None = None,
    split_guidance: bool = False,
    parallel: str | Parallel | None = None,
    adapter: Adapter | None = None,
) -> None:
    """Turn the cache on for this pipeline, until `disable_cache`.

    Args:
        pipeline: a pipeline that an installed adapter serves; it is hooked from outside, on this instance only.
        preset: a name from the model's presets, the path of a YAML file (`.yaml` or `.yml`), a config object, a mapping
            as in a YAML file, or None for the preset that the model's presets file chooses.
        target_speedup: FLOPs of the video without a cache over those that it may take; without a preset it chooses
            `forecast`, and only policies of that kind take it.
        allow_foreign_calibration: let `forecast` take a calibration file that was measured on another model.
        kv: how keys and values are kept: `model`, in the model's own dtype, `int8` or `host`; None takes the preset's.
        split_guidance: compute the CFG branches one after another, in half the memory for activations.
        parallel: what the processes that `torch.distributed` knows divide among themselves, who then sample one video:
            `cfg`, the CFG branches, `ulysses`, the heads of attention, or `cfg+ulysses`. Each of them enables the cache
            and calls its pipeline alike; noise and decisions are those of the first one.
        adapter: hooks the pipeline in place of the installed adapter that serves it.

    Raises:
        MotionCacheError: if no adapter serves the pipeline, the cache is already on, the preset is unknown, or it
            names a calibration of another model, or the model cannot be divided among the processes.
    """
    if _find_hook(pipeline) is not None:
        raise MotionCacheError("the cache is already on for this pipeline: call disable_cache first")
    adapter = adapter or find_adapter(pipeline)
    config = resolve_preset(
        adapter,
        preset,
        target_speedup,
        allow_foreign_calibration=allow_foreign_calibration,
        kv=kv,
        split_guidance=split_guidance,
    )
    hook = _hook(adapter, pipeline, config, parallel)
    setattr(pipeline, _ATTRIBUTE, _Attached(pipeline, hook))


def _hook(adapter: Adapter, pipeline: object, config: PolicyConfig, parallel: str | Parallel | None) -> Hook:
    if parallel is None:
        return adapter.hook(pipeline, config)
    return _parallel_adapter(adapter, parallel).hook_parallel(pipeline, config, Parallel.of(parallel))


def _parallel_adapter(adapter: Adapter, parallel: str | Parallel) -> ParallelAdapter:
    if not isinstance(adapter, ParallelAdapter):
        raise MotionCacheError(f"parallel={Parallel.of(parallel).value}: {adapter.name} runs in one process only")
    return adapter


def disable_cache(pipeline: object) -> None:
    """Put the pipeline back exactly as it was and free all that was cached."""
    hook = get_hook(pipeline)
    delattr(pipeline, _ATTRIBUTE)
    hook.undo()


def summary(pipeline: object) -> Summary:
    """What the cache did in the pipeline's last video; printable."""
    hook = get_hook(pipeline)
    return summarise(hook.engine.trace, hook.cost(), calibration=hook.calibration)


def last_trace(pipeline: object) -> Trace:
    """What was computed in the pipeline's last video: a record per iteration, chunk and CFG branch."""
    return get_hook(pipeline).engine.trace


def stream(pipeline: object, *args: Any, **call: Any) -> Generator[Any]:
    """Call a pipeline, with or without the cache, and yield the frames of each chunk as soon as it is clean.

    Closing the iterator stops the video. All chunks together are what the call returns at once.

    Args:
        args, call: of the pipeline's call, which makes one video. `output_type` says what is yielded: np, float32
            `[frames, height, width, 3]` in [0, 1], if it is not passed.

    Raises:
        MotionCacheError: if no installed adapter serves the pipeline, or its videos cannot be streamed.
    """
    return find_adapter(pipeline).stream(pipeline, *args, **call)


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
def cached(
    pipeline: object,
    preset: Preset = None,
    *,
    target_speedup: float | None = None,
    allow_foreign_calibration: bool = False,
    kv: KVStorage | str | None = None,
    split_guidance: bool = False,
    parallel: str | Parallel | None = None,
    adapter: Adapter | None = None,
) -> Generator[Statistics]:
    """The cache for the length of a `with` block, see `enable_cache`; undone on an exception too."""
    enable_cache(
        pipeline,
        preset,
        target_speedup=target_speedup,
        allow_foreign_calibration=allow_foreign_calibration,
        kv=kv,
        split_guidance=split_guidance,
        parallel=parallel,
        adapter=adapter,
    )
    statistics = Statistics(pipeline)
    try:
        yield statistics
    finally:
        try:
            statistics.freeze()
        finally:
            disable_cache(pipeline)


@contextmanager
def uncached(
    pipeline: object, *, parallel: str | Parallel | None = None, adapter: Adapter | None = None
) -> Generator[None]:
    """No cache for the length of a `with` block, to compare with: the video alone is divided, see `enable_cache`."""
    if parallel is None:
        yield
        return
    divided = _parallel_adapter(adapter or find_adapter(pipeline), parallel)
    with divided.uncached_parallel(pipeline, Parallel.of(parallel)):
        yield


def get_hook(pipeline: object) -> Hook:
    """The cache of a pipeline, for tools that look inside."""
    hook = _find_hook(pipeline)
    if hook is None:
        raise MotionCacheError("the cache is not on for this pipeline: call enable_cache first")
    return hook


class _Attached:
    """A pipeline's cache, which stays behind when the pipeline is copied or pickled: a copy has none."""

    def __init__(self, pipeline: object, hook: Hook) -> None:
        self.pipeline = pipeline
        self.hook = hook

    def __deepcopy__(self, memo: object) -> None:
        return None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def _find_hook(pipeline: object) -> Hook | None:
    attached = getattr(pipeline, _ATTRIBUTE, None)
    # A shallow copy shares the attributes of its original.
    return attached.hook if isinstance(attached, _Attached) and attached.pipeline is pipeline else None
