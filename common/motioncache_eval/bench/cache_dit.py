"""Turns cache-dit on for any pipeline that it knows."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from motioncache.extras import require_extra


@contextmanager
def cache_dit_enabled(pipeline: Any, knobs: Mapping[str, Any], taylorseer: int | None = None) -> Iterator[None]:
    """Turn DBCache on for the length of a block.

    Args:
        knobs: fields of its `DBCacheConfig`.
        taylorseer: the order of the TaylorSeer that extrapolates reused residuals; None reuses them as they are.
    """
    os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "error")  # read at its import
    require_extra("cache_dit", "DBCache")
    import cache_dit

    calibrator = None if taylorseer is None else cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=taylorseer)
    cache_dit.enable_cache(pipeline, cache_config=cache_dit.DBCacheConfig(**knobs), calibrator_config=calibrator)
    try:
        yield
    finally:
        cache_dit.disable_cache(pipeline)
