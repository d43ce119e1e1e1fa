"""Says what a video takes of a GPU, and what to pass so that it fits."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.memory import GIB, RESERVE, Footprint

Estimate = Callable[[Any], Footprint]
"""What sampling a job takes of a GPU."""

WINDOWS = (97, 77, 57, 37)
"""Frames of a window, from the longest to the shortest."""


@contextmanager
def explain_out_of_memory(job: Any, estimate: Estimate | None = None) -> Generator[None]:
    """Turn an allocation that fails within the block into an error that says what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        if not (on_gpu or isinstance(error, MemoryError) or "can't allocate memory" in str(error)):
            raise
        size = f"{job.num_frames} frames of {job.width}x{job.height}"
        needs, remedies = "", "a smaller video"
        if on_gpu:
            needs = "" if estimate is None else needs_of(job, estimate)
            remedies = fitting(job, estimate, card_size(job.device)) if estimate is not None else None
            remedies = remedies or _all_remedies(job)
        raise MotionCacheError(f"{job.device} has too little memory for {size}{needs}: pass {remedies}") from None


def needs_of(job: Any, estimate: Estimate) -> str:
    """What a job takes, in words."""
    whole, offloaded = (estimate(job).total(offload=offload) / GIB for offload in (False, True))
    return f", which take about {whole:.0f} GiB, or {offloaded:.0f} GiB with cpu_offload=true"


def card_size(device: str) -> int | None:
    """Bytes of a GPU's memory; None where there is none."""
    return torch.cuda.get_device_properties(device).total_memory if torch.cuda.is_available() else None


def fitting(job: Any, estimate: Estimate, card: int | None) -> str | None:
    """The mildest settings with which a job fits on a card, and the longest window that fits without them; or None."""
    if card is None:
        return None
    found = [
        next((one for one in some if _fits(job, estimate, one, card)), None) for some in (_flags(job), _windows(job))
    ]
    texts = [" ".join(f"{key}={_shown(value)}" for key, value in one.items()) for one in found if one]
    return " or ".join(texts) or None


def _fits(job: Any, estimate: Estimate, changes: dict[str, Any], card: int) -> bool:
    changed = replace(job, **changes)
    return estimate(changed).total(offload=changed.cpu_offload) + RESERVE <= card


def _flags(job: Any) -> Iterator[dict[str, Any]]:
    """Settings that make a job smaller and leave its size, the mildest first."""
    ways: list[dict[str, Any]] = [{}]
    if hasattr(job, "kv"):
        ways += [{"kv": "int8"}, {"kv": "host"}]
    if hasattr(job, "split_guidance"):
        ways.append({"kv": "host", "split_guidance": True})
    for way in ways:
        new = {key: value for key, value in way.items() if getattr(job, key) != value}
        for offload in ({}, {"cpu_offload": True}):
            if (new or offload) and not (offload and job.cpu_offload):
                yield {**offload, **new}


def _windows(job: Any) -> Iterator[dict[str, Any]]:
    """Shorter windows."""
    frames = getattr(job, "base_num_frames", None)
    if frames is None:
        return
    for length in WINDOWS:
        if length < min(frames, job.num_frames):
            yield {"base_num_frames": length}


def _all_remedies(job: Any) -> str:
    shorter = "a smaller base_num_frames, " if hasattr(job, "base_num_frames") else ""
    kept = "kv=int8 or kv=host, " if hasattr(job, "kv") else ""
    return f"cpu_offload=true, {kept}dtype=bfloat16, {shorter}or a smaller video"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
