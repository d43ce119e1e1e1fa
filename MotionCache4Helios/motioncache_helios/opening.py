"""Opens the windows of a pipeline's videos, one for each chunk: which policy decides, on which schedule."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import HeliosTransformer3DModel

from motioncache.config import PolicyConfig
from motioncache.engine import Engine
from motioncache.forecast.budget import ForecastConfig
from motioncache.forecast.calibration import ModelIdentity, sample_weights
from motioncache.grid import TokenGrid
from motioncache.kv_cache import KVCache
from motioncache.policies.distance import DistanceConfig
from motioncache.policies.motioncache import MotionCache, MotionCacheConfig
from motioncache.policies.none import NoCache
from motioncache.policies.policy import Policy
from motioncache.policies.teacache import TeaCache, TeaCacheConfig
from motioncache.polynomials import with_model_polynomial
from motioncache.record import WindowShape
from motioncache.step_distance import StepDistance
from motioncache_helios.cost import HeliosCost
from motioncache_helios.embedding import History
from motioncache_helios.profile import profile_window
from motioncache_helios.window import BRANCHES, Schedule, Window


class WindowOpener:
    """Creates the engine of a pipeline, and opens a window for each chunk of its videos.

    Args:
        presets: the model's presets file.
    """

    def __init__(self, pipeline: Any, config: PolicyConfig, presets: Path) -> None:
        self._pipeline = pipeline
        self._transformer: HeliosTransformer3DModel = pipeline.transformer
        if isinstance(config, DistanceConfig):
            config = with_model_polynomial(config, self._transformer, presets, "motioncache_helios")
        self.config = config
        self.engine = Engine(self._create_policy())
        self._planner = config.planner(presets) if isinstance(config, ForecastConfig) else None
        if self._planner is not None:
            self._planner.check_model(identity_of(self._transformer, 1.0))

    @property
    def calibration(self) -> str | None:
        """What velocities are forecast with, in words."""
        return None if self._planner is None else self._planner.used

    def _create_policy(self) -> Policy:
        config = self.config
        if isinstance(config, TeaCacheConfig):
            return TeaCache(threshold=config.threshold, warmup=config.warmup)
        return MotionCache(config) if isinstance(config, MotionCacheConfig) else NoCache()

    def open(self, latents: torch.Tensor, history: History, cost: HeliosCost, *, follows: bool) -> Window:
        """Begin a chunk with the latents of its first model call, `[B, channels, frames, height, width]`.

        Args:
            follows: whether the history shows something, and not zeros.
        """
        guidance = self._pipeline.guidance_scale
        schedule = self._schedule()
        branches = BRANCHES if self._pipeline.do_classifier_free_guidance else BRANCHES[:1]
        shape = window_shape(self._transformer, latents, iterations=len(schedule.sigmas), branches=branches)
        if self._planner is not None:
            profile = profile_window(schedule.sigmas, shape, cost)
            model = identity_of(self._transformer, guidance)
            self.engine.policy = self._planner.plan(profile, model, guidance_shares(guidance))
        self.engine.start_window(shape)
        selects = isinstance(self.config, MotionCacheConfig) and self.config.mixes_videos
        return Window(
            self._transformer,
            self.engine,
            schedule,
            shape,
            history,
            follows=follows,
            guided=partial(getattr, self._pipeline, "do_classifier_free_guidance"),
            allocate=partial(allocate, self._transformer, latents, shape.grid.tokens) if selects else None,
            keeps_velocity=self._planner is not None,
        )

    def _schedule(self) -> Schedule:
        """The pipeline's own schedule, which it has set before the first model call of a chunk."""
        scheduler = self._pipeline.scheduler
        timesteps = [float(timestep) for timestep in scheduler.timesteps.tolist()]
        distances = [0.0] * len(timesteps)
        if isinstance(self.config, DistanceConfig):
            distance = StepDistance(self._transformer, self.config)
            distances[1:] = [float(distance.between((a,), (b,))) for a, b in pairwise(timesteps)]
        noise = scheduler.config.num_train_timesteps  # the timestep of pure noise, whose sigma is 1
        return Schedule(sigmas=tuple(timestep / noise for timestep in timesteps), distances=tuple(distances))


def guidance_shares(scale: float) -> dict[str, float]:
    """The factor of each CFG branch in the guided velocity."""
    return {BRANCHES[0]: scale, BRANCHES[1]: 1 - scale} if scale > 1 else {BRANCHES[0]: 1.0}


def window_shape(
    transformer: HeliosTransformer3DModel, latents: torch.Tensor, *, iterations: int, branches: tuple[str, ...]
) -> WindowShape:
    """The shape of a window that is one chunk, from its latents `[B, channels, frames, height, width]`."""
    sizes = zip(latents.shape[2:], transformer.config.patch_size, strict=True)
    frames, height, width = (size // patch for size, patch in sizes)
    grid = TokenGrid(frames=frames, height=height, width=width, chunk_frames=frames)
    return WindowShape(grid=grid, iterations=iterations, branches=branches, causal=False)


def allocate(transformer: HeliosTransformer3DModel, latents: torch.Tensor, tokens: int) -> KVCache:
    """Room for the keys and values of a chunk's tokens."""
    return KVCache(
        layers=len(transformer.blocks),
        batch=len(latents),
        rows=tokens,
        heads=transformer.config.num_attention_heads,
        head_dim=transformer.config.attention_head_dim,
        dtype=latents.dtype,
        device=latents.device,
    )


def identity_of(transformer: HeliosTransformer3DModel, guidance_scale: float) -> ModelIdentity:
    """What a calibration says that it was measured on."""
    cost, weights = HeliosCost.of(transformer), sample_weights(getattr(transformer.proj_out, "weight", None))
    return ModelIdentity(cost.layers, cost.width, weights, guidance=max(float(guidance_scale), 1.0))
