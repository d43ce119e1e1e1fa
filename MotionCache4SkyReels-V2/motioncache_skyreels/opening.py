"""Opens the windows of a pipeline's videos: which policy decides, on which schedule, with which memory."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.chunk_store import ChunkStore
from motioncache.compiling import uncompiled
from motioncache.config import KVStorage, PolicyConfig
from motioncache.engine import Engine
from motioncache.forecast.budget import ForecastConfig
from motioncache.forecast.calibration import ModelIdentity, sample_weights
from motioncache.grid import TokenGrid
from motioncache.kept import FORMS
from motioncache.kv_cache import KVCache
from motioncache.kv_store import KVStore
from motioncache.policies.distance import DistanceConfig
from motioncache.policies.motioncache import MotionCache, MotionCacheConfig
from motioncache.policies.none import NoCache
from motioncache.policies.policy import Policy
from motioncache.policies.teacache import TeaCache, TeaCacheConfig
from motioncache.polynomials import with_model_polynomial
from motioncache.record import WindowShape
from motioncache.step_distance import StepDistance
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.fits import check_fits
from motioncache_skyreels.guards import check_window
from motioncache_skyreels.packed import TextContext
from motioncache_skyreels.profile import profile_window
from motioncache_skyreels.schedule import Matrices, Schedule, no_distance
from motioncache_skyreels.window import BRANCHES, Window


class WindowOpener:
    """Creates the engine of a pipeline, and opens the windows of its videos.

    Args:
        presets: the model's presets file.

    Attributes:
        shares: processes among which keys and values are divided.
    """

    window_class: Callable[..., Window] = Window
    shares = 1

    def __init__(self, pipeline: Any, config: PolicyConfig, presets: Path) -> None:
        self._pipeline = pipeline
        self._transformer: SkyReelsV2Transformer3DModel = uncompiled(pipeline.transformer)
        if isinstance(config, DistanceConfig):
            config = with_model_polynomial(config, self._transformer, presets, "motioncache_skyreels")
        self.config = config
        self.engine = self.create_engine()
        self._planner = config.planner(presets) if isinstance(config, ForecastConfig) else None
        if self._planner is not None:
            self._planner.check_model(identity_of(self._transformer, 1.0), self._transformer)

    @property
    def calibration(self) -> str | None:
        """What velocities are forecast with, in words."""
        return None if self._planner is None else self._planner.used

    def create_engine(self) -> Engine:
        """The engine of all videos; a planner gives it another policy for each window."""
        return Engine(self._create_policy())

    def _create_policy(self) -> Policy:
        config = self.config
        if isinstance(config, TeaCacheConfig):
            return TeaCache(threshold=config.threshold, warmup=config.warmup)
        return MotionCache(config) if isinstance(config, MotionCacheConfig) else NoCache()

    def open(
        self,
        matrices: Matrices,
        hidden_states: torch.Tensor,
        fps: Sequence[int] | None,
        *,
        texts: dict[str, TextContext],
        cost: SkyReelsCost,
    ) -> Window:
        """Begin a window with the latents of its first model call, `[B, channels, F, height, width]`."""
        frames, chunk_frames = hidden_states.shape[2], self._transformer.config.num_frame_per_block
        causal = chunk_frames > 1
        check_window(matrices, frames=frames, causal=causal, chunk_frames=chunk_frames)
        schedule = self.create_schedule(matrices, chunk_frames if causal else frames, fps)
        branches = BRANCHES if self._pipeline.do_classifier_free_guidance else BRANCHES[:1]
        shape = window_shape(self._transformer, hidden_states, schedule, branches, causal=causal)
        if self._planner is not None:
            model = identity_of(self._transformer, self._pipeline.guidance_scale)
            profile = profile_window(schedule, shape, cost)
            self.engine.policy = self._planner.plan(profile, model, guidance_shares(self._pipeline.guidance_scale))
        self.engine.start_window(shape)
        return self.window_class(
            self._transformer,
            self.engine,
            schedule.visits,
            shape,
            guided=partial(getattr, self._pipeline, "do_classifier_free_guidance"),
            cache=self.create_store(hidden_states, schedule, shape),
            rotary=self._transformer.rope(hidden_states),
            texts=texts,
            keeps_velocity=self._planner is not None,
            split_guidance=self.config.split_guidance,
        )

    def create_store(self, hidden_states: torch.Tensor, schedule: Schedule, shape: WindowShape) -> KVStore:
        """What keeps keys and values: all of them, where a chunk may see another that is not computed with it."""
        starts = schedule.starts()
        synchronous = len(set(starts)) <= 1
        check_fits(self._transformer, hidden_states, shape, self.config, synchronous=synchronous, shares=self.shares)
        keeps_all = not self.engine.policy.computes_together(starts)
        if keeps_all and self.config.kv is KVStorage.model:
            return self.allocate(hidden_states, shape)
        return ChunkStore(FORMS[self.config.kv], keeps_all=keeps_all)

    def allocate(self, hidden_states: torch.Tensor, shape: WindowShape) -> KVCache:
        """Room for the keys and values of a window."""
        return allocate(self._transformer, hidden_states, shape)

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        """The schedule of a window, with step distances where the policy accumulates them."""
        if not isinstance(self.config, DistanceConfig):
            return Schedule(matrices, chunk_frames=chunk_frames, distance=no_distance)
        index = fps[0] if fps is not None and self._transformer.config.inject_sample_info else None
        distance = StepDistance(self._transformer, self.config, index)
        return Schedule(matrices, chunk_frames=chunk_frames, distance=cache(distance.between))


def guidance_shares(scale: float) -> dict[str, float]:
    """The factor of each CFG branch in the guided velocity."""
    return {BRANCHES[0]: scale, BRANCHES[1]: 1 - scale} if scale > 1 else {BRANCHES[0]: 1.0}


def window_shape(
    transformer: SkyReelsV2Transformer3DModel,
    hidden_states: torch.Tensor,
    schedule: Schedule,
    branches: tuple[str, ...],
    *,
    causal: bool,
) -> WindowShape:
    """The shape of a window, from its latents `[B, channels, F, height, width]`."""
    _, _, frames, height, width = hidden_states.shape
    _, patch_height, patch_width = transformer.config.patch_size
    grid = TokenGrid(
        frames=frames,
        height=height // patch_height,
        width=width // patch_width,
        chunk_frames=schedule.chunk_frames,
    )
    return WindowShape(grid=grid, iterations=schedule.iterations, branches=branches, causal=causal)


def allocate(
    transformer: SkyReelsV2Transformer3DModel, hidden_states: torch.Tensor, shape: WindowShape, parts: int = 1
) -> KVCache:
    """Keys and values of all tokens of a window, branch after branch; of one of so many equal parts of the heads."""
    return KVCache(
        layers=len(transformer.blocks),
        batch=len(hidden_states),
        rows=len(shape.branches) * shape.grid.tokens,
        heads=transformer.config.num_attention_heads // parts,
        head_dim=transformer.config.attention_head_dim,
        dtype=hidden_states.dtype,
        device=hidden_states.device,
    )


def identity_of(transformer: SkyReelsV2Transformer3DModel, guidance_scale: float) -> ModelIdentity:
    """What a calibration says that it was measured on."""
    cost, weights = SkyReelsCost.of(transformer), sample_weights(getattr(transformer.proj_out, "weight", None))
    return ModelIdentity(cost.layers, cost.width, weights, guidance=max(float(guidance_scale), 1.0))
