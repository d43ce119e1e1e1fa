"""Caches of other packages on a SkyReels-V2 pipeline, for the benchmark: as they ship, but for what is said here.

diffusers' caches do not know the transformer's block; it is registered, and their state is dropped at the start of
every window. MagCache needs ratios of this model: they come from its own calibration over one video, which nothing is
measured on. cache-dit knows the model.
"""

import ast
import contextlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2TransformerBlock

from motioncache.patch import Patch
from motioncache_eval.bench.cache_dit import cache_dit_enabled
from motioncache_eval.bench.model import Baseline
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.sample import run_pipeline

CALIBRATION_PROMPT = "a green square moving up slowly over a brown background"


def create_baselines() -> dict[str, Baseline]:
    """By the name that a benchmark's `baseline:` gives."""
    return {
        "first-block-cache": first_block_cache,
        "magcache": MagCache(),
        "dbcache": dbcache,
        "dbcache-taylorseer": dbcache_taylorseer,
    }


@contextmanager
def first_block_cache(pipeline: Any, job: JobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """diffusers' First Block Cache."""
    with _diffusers_cache(pipeline, FirstBlockCacheConfig(**knobs)):
        yield


class MagCache:
    """diffusers' MagCache; the ratios are kept for every schedule."""

    def __init__(self) -> None:
        self._ratios: dict[int, list[float]] = {}

    @contextmanager
    def __call__(self, pipeline: Any, job: JobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
        calls = window_calls(job)
        if calls not in self._ratios:
            self._ratios[calls] = self._calibrate(pipeline, job, calls)
        config = MagCacheConfig(num_inference_steps=calls, mag_ratios=self._ratios[calls], **knobs)
        with _diffusers_cache(pipeline, config):
            yield

    @staticmethod
    def _calibrate(pipeline: Any, job: JobConfig, calls: int) -> list[float]:
        """What diffusers prints at the end of a calibration; of the branch with the prompt, which comes first."""
        printed = io.StringIO()
        config = MagCacheConfig(num_inference_steps=calls, calibrate=True)
        with _diffusers_cache(pipeline, config), contextlib.redirect_stdout(printed):
            run_pipeline(pipeline, replace(job, prompt=CALIBRATION_PROMPT, seed=0))
        return ast.literal_eval(next(line for line in printed.getvalue().splitlines() if line.startswith("[1.0")))


def window_calls(job: JobConfig) -> int:
    """Iterations of a window, which are the steps that these caches count."""
    latent_frames = (min(job.num_frames, job.base_num_frames) - 1) // 4 + 1
    return job.num_inference_steps + job.ar_step * (latent_frames // job.causal_block_size - 1)


@contextmanager
def _diffusers_cache(pipeline: Any, config: Any) -> Iterator[None]:
    transformer, patch = pipeline.transformer, Patch()
    TransformerBlockRegistry.register(
        SkyReelsV2TransformerBlock,
        TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
    )
    begin_window = pipeline.generate_timestep_matrix

    def begin_anew(*args: Any, **kwargs: Any) -> Any:
        transformer._reset_stateful_cache()
        return begin_window(*args, **kwargs)

    transformer.enable_cache(config)
    patch.set_method(pipeline, "generate_timestep_matrix", begin_anew)
    try:
        yield
    finally:
        patch.undo()
        transformer.disable_cache()


@contextmanager
def dbcache(pipeline: Any, job: JobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """cache-dit's DBCache."""
    with cache_dit_enabled(pipeline, knobs):
        yield


@contextmanager
def dbcache_taylorseer(pipeline: Any, job: JobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """cache-dit's DBCache, reused residuals extrapolated by its TaylorSeer of first order."""
    with cache_dit_enabled(pipeline, knobs, taylorseer=1):
        yield
