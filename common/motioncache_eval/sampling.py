"""Samples one video with one policy, and takes the time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from motioncache.api import cached, get_hook, uncached
from motioncache.config import PolicyConfig
from motioncache.parallel import Parallel
from motioncache.registry import Adapter
from motioncache.summary import Summary
from motioncache.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A sampled video.

    Attributes:
        latents: `[1, channels, frames, height, width]`.
        seconds: wall time of the sampling, without decoding.
        summary, trace: what the cache did; None without a cache.
    """

    latents: torch.Tensor
    seconds: float
    summary: Summary | None = None
    trace: Trace | None = None


def take_sample(
    pipeline: object,
    call: Callable[[], torch.Tensor],
    policy: PolicyConfig | None,
    *,
    device: str,
    adapter: Adapter | None = None,
    parallel: Parallel | None = None,
    prepare: Callable[[Any], None] | None = None,
) -> Sample:
    """Run `call`, which samples with the pipeline and returns latents.

    Args:
        policy: None samples without a cache.
        adapter, parallel: see `enable_cache`.
        prepare: called with the cache's hook before sampling, to attach a probe.
    """
    if policy is None:
        with uncached(pipeline, parallel=parallel, adapter=adapter):
            latents, seconds = _timed(call, device)
        return Sample(latents=latents, seconds=seconds)
    with cached(pipeline, policy, parallel=parallel, adapter=adapter) as statistics:
        hook = get_hook(pipeline)
        if prepare is not None:
            prepare(hook)
        latents, seconds = _timed(call, device)
    return Sample(latents=latents, seconds=seconds, summary=statistics.summary(), trace=hook.engine.trace)


def _timed(call: Callable[[], torch.Tensor], device: str) -> tuple[torch.Tensor, float]:
    _synchronize(device)
    started = time.perf_counter()
    latents = call()
    _synchronize(device)
    return latents, time.perf_counter() - started


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
