"""Caches of other packages on a SkyReels-V2 pipeline, for the benchmark: as they ship, but for what is said here.

diffusers' caches do not know the transformer's block; it is registered, and their state is dropped at the start of
every window. MagCache needs ratios of this model: they come from its own calibration over one video, which nothing is
measured on. SeaCache needs a noise level of each call, which this pipeline does not tell it. cache-dit knows the model;
hicache-pp leaves it to its user where to call it.
"""

import ast
import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusers.hooks import FirstBlockCacheConfig, MagCacheConfig, SeaCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2TransformerBlock

from motioncache.extras import require_extra
from motioncache.patch import Patch
from motioncache_eval.bench.cache_dit import cache_dit_enabled
from motioncache_eval.bench.model import Baseline
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.sample import run_pipeline
from motioncache_skyreels.profile import NOISE
from motioncache_skyreels.window import BRANCHES

CALIBRATION_PROMPT = "a green square moving up slowly over a brown background"


def create_baselines() -> dict[str, Baseline]:
    """By the name that a benchmark's `baseline:` gives."""
    return {
        "first-block-cache": first_block_cache,
        "magcache": MagCache(),
        "seacache": sea_cache,
        "hicache-pp": hicache,
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
def sea_cache(pipeline: Any, job: JobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """diffusers' SeaCache.

    It computes every call of which it is not told the step and one noise level. Here it is told the mean of those of
    the latent frames that are denoised.
    """
    patch, calls = Patch(), SeaCalls(pipeline.transformer.cache_context)
    config = SeaCacheConfig(raw_vision_callback=_latents_of_call, **knobs)
    patch.set_method(pipeline.transformer, "cache_context", calls.context)
    try:
        with _diffusers_cache(pipeline, config, calls.begin_window):
            yield
    finally:
        patch.undo()


class SeaCalls:
    """Adds to a cache context what SeaCache wants to know of a call.

    Args:
        context: the transformer's own `cache_context`.
    """

    def __init__(self, context: Callable[..., AbstractContextManager[None]]) -> None:
        self._context = context
        self._sigmas: list[float] = []
        self._step = -1

    def begin_window(self, matrices: Any) -> None:
        """Take what `generate_timestep_matrix` returned."""
        timesteps, _, update_mask, _ = matrices
        denoised = update_mask.float()
        self._sigmas = ((timesteps * denoised).sum(1) / denoised.sum(1) / NOISE).tolist()
        self._step = -1

    def context(self, name: str) -> AbstractContextManager[None]:
        self._step += name == BRANCHES[0]
        return self._context(
            name, step_index=self._step, sigma=self._sigmas[self._step], num_inference_steps=len(self._sigmas)
        )


def _latents_of_call(transformer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The latents of a call, `[channels, F, height, width]` for each element of the batch."""
    return list(kwargs["hidden_states"].unbind(0))


@contextmanager
def hicache(pipeline: Any, job: JobConfig, knobs: Mapping[str, Any]) -> Iterator[None]:
    """hicache-pp, called as its documentation says, on the guided velocity of the whole window."""
    require_extra("hicache_pp", "HiCache++")
    patch, transformer = Patch(), pipeline.transformer
    loop = HiCacheLoop(transformer.forward, job.guidance_scale, window_calls(job), knobs)
    begin_window = pipeline.generate_timestep_matrix

    def begin_anew(*args: Any, **kwargs: Any) -> Any:
        loop.begin_window()
        return begin_window(*args, **kwargs)

    patch.set_method(pipeline, "generate_timestep_matrix", begin_anew)
    patch.set_method(transformer, "forward", loop.forward)
    try:
        yield
    finally:
        patch.undo()


class HiCacheLoop:
    """Stands in for a transformer's forward.

    The pipeline calls it for one branch of guidance, then for the other, and mixes them. Where the guided velocity is
    forecast, both calls return it, so that the mixture is the same.

    Args:
        knobs: `interval`, `first_enhance`, `backend` and the like of `hicache_init`.
    """

    def __init__(self, forward: Callable[..., Any], guidance: float, calls: int, knobs: Mapping[str, Any]) -> None:
        self._forward = forward
        self._guidance = guidance
        self._begin = partial(hicache_pp_init, calls, **knobs)
        self.begin_window()

    def begin_window(self) -> None:
        self._state = self._begin()
        self._cond: torch.Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        import hicache_pp

        state, first = self._state, self._cond is None
        if first:
            hicache_pp.hicache_decide(state)
        forecasts = state["type"] == "forecast"
        output = _hicache_forecast(state) if forecasts else self._forward(*args, **kwargs)[0]
        guided = self._guidance > 1
        if first and guided:
            self._cond = output
            return (output,)
        if not forecasts:
            velocity = output if self._cond is None else output + self._guidance * (self._cond - output)
            hicache_pp.hicache_update_derivatives(state, velocity.detach())
            hicache_pp.dmd_update_snapshots(state, velocity.detach(), state["history"])
        state["step"] += 1
        self._cond = None
        return (output,)


def hicache_pp_init(calls: int, **knobs: Any) -> dict[str, Any]:
    import hicache_pp

    return hicache_pp.hicache_init(calls, **knobs)


def _hicache_forecast(state: dict[str, Any]) -> torch.Tensor:
    import hicache_pp

    by_backend = {"hermite": hicache_pp.hicache_forecast, "dmd": hicache_pp.dmd_forecast_state}
    return by_backend.get(state["backend"], hicache_pp.auto_forecast_state)(state)


@contextmanager
def _diffusers_cache(
    pipeline: Any, config: Any, on_window: Callable[[Any], None] = lambda matrices: None
) -> Iterator[None]:
    transformer, patch = pipeline.transformer, Patch()
    TransformerBlockRegistry.register(
        SkyReelsV2TransformerBlock,
        TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
    )
    begin_window = pipeline.generate_timestep_matrix

    def begin_anew(*args: Any, **kwargs: Any) -> Any:
        transformer._reset_stateful_cache()
        matrices = begin_window(*args, **kwargs)
        on_window(matrices)
        return matrices

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
