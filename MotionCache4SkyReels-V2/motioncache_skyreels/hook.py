"""Hooks a user's own SkyReels-V2 diffusion-forcing pipeline, from outside and on this one instance only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils import apply_lora_scale

from motioncache.config import PolicyConfig
from motioncache.decision import Policy
from motioncache.distance import DistanceConfig
from motioncache.engine import Engine
from motioncache.forecast.calibration import ModelIdentity, sample_weights
from motioncache.forecast.policy import ForecastConfig
from motioncache.policies.motioncache import MotionCache, MotionCacheConfig
from motioncache.policies.none import NoCache
from motioncache.policies.teacache import TeaCache, TeaCacheConfig
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.guards import VideoSize, check_chunks, check_end_frame, check_transformer, check_window
from motioncache_skyreels.packed import TextContext, patch_blocks
from motioncache_skyreels.patch import Patch
from motioncache_skyreels.polynomials import with_model_polynomial
from motioncache_skyreels.profile import profile_window
from motioncache_skyreels.schedule import Matrices, Schedule, no_distance
from motioncache_skyreels.step_distance import StepDistance
from motioncache_skyreels.window import BRANCHES, Window


class SkyReelsHook:
    """The cache on one pipeline, from `enable` to `undo`.

    Five places are touched, all on instances: the pipeline's `prepare_latents` (a call begins, sizes are checked) and
    `generate_timestep_matrix` (a window begins, its schedule is known), the transformer's `cache_context` (names the
    CFG branch) and `forward`, and the `forward` of its blocks.
    """

    def __init__(self, pipeline: Any, config: PolicyConfig, *, presets: Path) -> None:
        transformer = pipeline.transformer
        check_transformer(transformer)
        self._pipeline = pipeline
        self._transformer = transformer
        if isinstance(config, DistanceConfig):
            config = with_model_polynomial(config, transformer, presets)
        self.config = config
        self.engine = self.create_engine()
        self._planner = config.planner(presets) if isinstance(config, ForecastConfig) else None
        self._window: Window | None = None
        self._pending: Matrices | None = None
        self._texts: dict[str, TextContext] = {}
        self._windows_left = 0
        self._branch: str | None = None
        self._text_length = 512
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
        return SkyReelsCost.of(self._transformer, self._text_length)

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
        self._window = None  # the last one may have been interrupted
        self.engine.end_window()
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
            self._text_length = encoder_hidden_states.shape[1]
            window = self._open_window(hidden_states, fps)
            output = window.forward(self._branch, hidden_states, timestep, encoder_hidden_states, fps)
        except BaseException:
            self._drop()
            raise
        if window.finished:
            self._window_finished()
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _open_window(self, hidden_states: torch.Tensor, fps: Sequence[int] | None) -> Window:
        if self._pending is not None:
            matrices, self._pending = self._pending, None
            self._window = self._new_window(matrices, hidden_states, fps)
        assert self._window is not None
        return self._window

    def _window_finished(self) -> None:
        """Free what belongs to the window, and after the last one all that belongs to the video."""
        self._window = None
        self._windows_left -= 1
        if self._windows_left > 0:
            self.engine.end_window()
        else:
            self._drop()

    def _new_window(self, matrices: Matrices, hidden_states: torch.Tensor, fps: Sequence[int] | None) -> Window:
        frames = hidden_states.shape[2]
        chunk_frames = self._transformer.config.num_frame_per_block
        causal = chunk_frames > 1
        check_window(matrices, frames=frames, causal=causal, chunk_frames=chunk_frames)
        schedule = self.create_schedule(matrices, chunk_frames if causal else frames, fps)
        window = self.create_window(schedule, causal=causal)
        if self._planner is not None:
            profile = profile_window(schedule, window.shape(hidden_states), self.cost())
            model = identity_of(self._transformer, self._pipeline.guidance_scale)
            self.engine.policy = self._planner.plan(profile, model)
        return window

    def create_engine(self) -> Engine:
        """The engine of all videos; a planner gives it another policy for each window."""
        return Engine(self.create_policy())

    def create_policy(self) -> Policy:
        """What decides, unless it is planned window by window."""
        config = self.config
        if isinstance(config, TeaCacheConfig):
            return TeaCache(threshold=config.threshold, warmup=config.warmup)
        return MotionCache(config) if isinstance(config, MotionCacheConfig) else NoCache()

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        """The schedule of a window, with step distances where the policy accumulates them."""
        if not isinstance(self.config, DistanceConfig):
            return Schedule(matrices, chunk_frames=chunk_frames, distance=no_distance)
        index = fps[0] if fps is not None and self._transformer.config.inject_sample_info else None
        distance = StepDistance(self._transformer, self.config, index)
        return Schedule(matrices, chunk_frames=chunk_frames, distance=cache(distance.between))

    def create_window(self, schedule: Schedule, *, causal: bool, window: type[Window] = Window) -> Window:
        """What runs the model calls of a window."""
        return window(
            self._transformer,
            self.engine,
            schedule,
            texts=self._texts,
            branches=BRANCHES if self._pipeline.do_classifier_free_guidance else BRANCHES[:1],
            causal=causal,
            keeps_velocity=self._planner is not None,
        )


def identity_of(transformer: SkyReelsV2Transformer3DModel, guidance_scale: float) -> ModelIdentity:
    """What a calibration says that it was measured on."""
    cost, weights = SkyReelsCost.of(transformer), sample_weights(transformer.proj_out.weight)
    return ModelIdentity(cost.layers, cost.width, weights, guidance=max(float(guidance_scale), 1.0))
