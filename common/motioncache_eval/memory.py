"""Says in one line that a video is too large for the memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from motioncache.errors import MotionCacheError


@contextmanager
def within_memory(job: Any) -> Iterator[None]:
    """Turn an allocation that fails inside into an error that says what to change.

    Args:
        job: a job's configuration, with at least `num_frames`, `width`, `height` and `device`.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        if not (on_gpu or isinstance(error, MemoryError) or "can't allocate memory" in str(error)):
            raise
        options = "cpu_offload=true, dtype=bfloat16, or a smaller video" if on_gpu else "a smaller video"
        raise MotionCacheError(
            f"{job.device} has too little memory for {job.num_frames} frames of {job.width}x{job.height}: pass "
            f"{options}"
        ) from None
