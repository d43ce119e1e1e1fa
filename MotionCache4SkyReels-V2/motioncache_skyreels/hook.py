"""Hooks a user's own SkyReels-V2 diffusion-forcing pipeline, from outside and on this one instance only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2Transformer3DModel,
)
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2TransformerBlock
from diffusers.utils import apply_lora_scale

from motioncache.api import presets_file
from motioncache.decision import Policy
from motioncache.engine import Engine
from motioncache.forecast.calibration import ModelIdentity, sample_weights
from motioncache.forecast.policy import ForecastPlanner
from motioncache.policies.motioncache import MotionCache
from motioncache.policies.none import NoCache
from motioncache.policies.teacache import TeaCache
from motioncache.presets import (
    POLICIES,
    DistanceConfig,
    ForecastConfig,
    MotionCacheConfig,
    PolicyConfig,
    TeaCacheConfig,
)
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.guards import VideoSize, check_chunks, check_end_frame, check_transformer, check_window
from motioncache_skyreels.packed import Pack, TextContext, packed_block
from motioncache_skyreels.patch import Patch
from motioncache_skyreels.polynomials import model_polynomial
from motioncache_skyreels.profile import profile_window
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.step_distance import DistanceTable, StepDistance
from motioncache_skyreels.window import BRANCHES, Window

PIPELINES = (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
)


class SkyReelsAdapter:
    """How `motioncache` finds out whether a pipeline is one of ours, and hooks it."""

    name = "skyreels-v2"
    policies = POLICIES

    @staticmethod
    def serves(pipeline: object) -> bool:
        return isinstance(pipeline, PIPELINES)

    @staticmethod
    def presets() -> Path:
        return presets_file(Path(__file__).parent)

    @staticmethod
    def hook(pipeline: Any, config: PolicyConfig) -> "SkyReelsHook":
        return SkyReelsHook(pipeline, config)


class SkyReelsHook:
    """The cache on one pipeline, from `enable` to `undo`.

    Five places are touched, all on instances: the pipeline's `prepare_latents` (a call begins, sizes are checked) and
    `generate_timestep_matrix` (a window begins, its schedule is known), the transformer's `cache_context` (names the
    CFG branch) and `forward`, and the `forward` of its blocks.
    """

    def __init__(self, pipeline: Any, config: PolicyConfig) -> None:
        transformer = pipeline.transformer
        check_transformer(transformer)
        self._pipeline = pipeline
        self._transformer = transformer
        self.config = _complete(config, transformer)
        self.engine = Engine(_policy(self.config))
        forecasts = isinstance(config, ForecastConfig)
        self._planner = ForecastPlanner(config, SkyReelsAdapter.presets()) if forecasts else None
        self._window: Window | None = None
        self._pending: Matrices | None = None
        self._texts: dict[str, TextContext] = {}
        self._windows_left = 0
        self._branch: str | None = None
        self._words = 512
        self._patch = Patch()
        try:
            self._install()
        except BaseException:
            self.undo()
            raise

    def _install(self) -> None:
        pipeline, transformer = self._pipeline, self._transformer
        prepare = partial(self._prepare_latents, pipeline.prepare_latents)
        matrix = partial(self._generate_timestep_matrix, pipeline.generate_timestep_matrix)
        context = partial(self._cache_context, transformer.cache_context)
        self._patch.set_attribute(pipeline, "prepare_latents", prepare)
        self._patch.set_attribute(pipeline, "generate_timestep_matrix", matrix)
        self._patch.set_attribute(transformer, "cache_context", context)
        self._patch.set_forward(transformer, partial(apply_lora_scale("attention_kwargs")(self._forward), transformer))
        patch_blocks(self._patch, transformer)

    def undo(self) -> None:
        """Take everything out again and free all state."""
        self._patch.undo()
        self._drop()

    def cost(self) -> SkyReelsCost:
        """FLOPs of this model."""
        return SkyReelsCost.of(self._transformer, self._words)

    def _end_window(self) -> None:
        """Free what belongs to the window, and after the last one all that belongs to the video."""
        self._window = None
        self._windows_left -= 1
        if self._windows_left > 0:
            self.engine.end_window()
        else:
            self._drop()

    def _drop(self) -> None:
        self._window = None
        self._pending = None
        self._texts = {}
        self.engine.drop()

    def _prepare_latents(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Called at the start of each window; the first one of a call starts a new video."""
        call = signature(original).bind(*args, **kwargs).arguments
        if not call.get("long_video_iter"):
            self._drop()
            self.engine.start_video()
            size = VideoSize.of_call(self._pipeline, call)
            self._windows_left = size.windows
            check_end_frame(size, call.get("last_image"))
            check_chunks(size)
        return original(*args, **kwargs)

    def _generate_timestep_matrix(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Called once per window, right before its loop; the window is opened at its first forward."""
        result = original(*args, **kwargs)
        self._window = None
        self.engine.end_window()  # for a window that the user interrupted
        self._pending = Matrices(
            timesteps=result[0],
            update_mask=result[2],
            valid_interval=result[3],
            prefix_frames=int(signature(original).bind(*args, **kwargs).arguments.get("num_pre_ready", 0)),
        )
        return result

    @contextmanager
    def _cache_context(self, original: Any, name: str, **kwargs: Any) -> Iterator[None]:
        self._branch = name
        try:
            with original(name, **kwargs):
                yield
        finally:
            self._branch = None

    def _forward(
        self,
        transformer: SkyReelsV2Transformer3DModel,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_hidden_states_image: torch.Tensor | None = None,
        enable_diffusion_forcing: bool = False,
        fps: Sequence[int] | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The transformer's forward while the cache is on; calls that are not part of a window pass through."""
        outside = self._window is None and self._pending is None
        if outside or not enable_diffusion_forcing or self._branch not in BRANCHES:
            return type(transformer).forward(
                transformer,
                hidden_states,
                timestep,
                encoder_hidden_states,
                encoder_hidden_states_image=encoder_hidden_states_image,
                enable_diffusion_forcing=enable_diffusion_forcing,
                fps=fps,
                return_dict=return_dict,
                attention_kwargs=attention_kwargs,
            )
        try:
            self._words = encoder_hidden_states.shape[1]
            window = self._open_window(hidden_states, fps)
            output = window.forward(self._branch, hidden_states, timestep, encoder_hidden_states, fps)
        except BaseException:
            self._drop()
            raise
        if window.finished:
            self._end_window()
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _open_window(self, hidden_states: torch.Tensor, fps: Sequence[int] | None) -> Window:
        if self._pending is not None:
            matrices, self._pending = self._pending, None
            self._window = self._new_window(matrices, hidden_states, fps)
        assert self._window is not None
        return self._window

    def _new_window(self, matrices: Matrices, hidden_states: torch.Tensor, fps: Sequence[int] | None) -> Window:
        frames = hidden_states.shape[2]
        block = self._transformer.config.num_frame_per_block
        causal = block > 1
        check_window(matrices, frames=frames, causal=causal, chunk_frames=block)
        quirks = isinstance(self.config, MotionCacheConfig) and self.config.reference_quirks
        schedule = Schedule(matrices, chunk_frames=block if causal else frames, finished_visits=not quirks)
        distances: DistanceTable = {}
        if isinstance(self.config, DistanceConfig):
            index = fps[0] if fps is not None and self._transformer.config.inject_sample_info else None
            distances = StepDistance(self._transformer, self.config, index).table(schedule.steps())
        window = Window(
            self._transformer,
            self.engine,
            schedule,
            distances,
            texts=self._texts,
            branches=BRANCHES if self._pipeline.do_classifier_free_guidance else BRANCHES[:1],
            causal=causal,
            chunk_reuse=not isinstance(self.config, TeaCacheConfig) or self.config.chunk_reuse,
            stale_modulation=quirks,
            keeps_velocity=self._planner is not None,
        )
        if self._planner is not None:
            profile = profile_window(schedule, window.shape(hidden_states), self.cost())
            self.engine.policy = self._planner.plan(
                profile, identity_of(self._transformer, self._pipeline.guidance_scale)
            )
        return window


def identity_of(transformer: SkyReelsV2Transformer3DModel, guidance_scale: float) -> ModelIdentity:
    """What a calibration says that it was measured on."""
    cost, weights = SkyReelsCost.of(transformer), sample_weights(transformer.proj_out.weight)
    return ModelIdentity(cost.layers, cost.width, weights, guidance=max(float(guidance_scale), 1.0))


def patch_blocks(patch: Patch, transformer: SkyReelsV2Transformer3DModel) -> None:
    """Let the blocks take packed rows."""
    for block in transformer.blocks:
        patch.set_forward(block, partial(_block_forward, block))


def _block_forward(block: SkyReelsV2TransformerBlock, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Packed rows come with a `Pack`; any other call is the block's own."""
    if len(args) == 3 and isinstance(args[1], Pack):
        return packed_block(block, *args)
    return type(block).forward(block, *args, **kwargs)


def _complete(config: PolicyConfig, transformer: SkyReelsV2Transformer3DModel) -> PolicyConfig:
    """Fill in the model's own distance polynomial where the config names none."""
    if not isinstance(config, DistanceConfig) or config.coefficients:
        return config
    polynomial = model_polynomial(transformer, SkyReelsAdapter.presets())
    return replace(config, coefficients=polynomial.coefficients, fit_range=config.fit_range or polynomial.fit_range)


def _policy(config: PolicyConfig) -> Policy:
    if isinstance(config, TeaCacheConfig):
        return TeaCache(threshold=config.threshold, warmup=config.warmup)
    return MotionCache(config) if isinstance(config, MotionCacheConfig) else NoCache()
