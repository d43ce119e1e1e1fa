"""Caches of other packages on MAGI-1, for the benchmark: as they ship. None of them knows this transformer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig, apply_first_block_cache, apply_mag_cache

from motioncache_eval.bench.cache_dit import cache_dit_enabled
from motioncache_eval.bench.model import Baseline
from motioncache_magi.job.config import MagiJobConfig


@contextmanager
def first_block_cache(pipeline: Any, job: MagiJobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """diffusers' First Block Cache, which raises."""
    apply_first_block_cache(pipeline.transformer, FirstBlockCacheConfig(**knobs))
    yield


@contextmanager
def magcache(pipeline: Any, job: MagiJobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """diffusers' MagCache, which finds no block, says so in a log, and changes nothing."""
    steps = job.num_inference_steps or pipeline.config.runtime.num_steps
    apply_mag_cache(pipeline.transformer, MagCacheConfig(num_inference_steps=steps, mag_ratios=[1.0] * steps, **knobs))
    yield


@contextmanager
def dbcache(pipeline: Any, job: MagiJobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """cache-dit's DBCache, which raises."""
    with cache_dit_enabled(pipeline, knobs):
        yield


BASELINES: dict[str, Baseline] = {"first-block-cache": first_block_cache, "magcache": magcache, "dbcache": dbcache}
