"""The cache on a `MagiPipeline`, from `enable_cache` to `disable_cache`."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from motioncache.config import PolicyConfig
from motioncache.engine import Engine
from motioncache.errors import MotionCacheError
from motioncache.forecast.budget import ForecastConfig
from motioncache.forecast.calibration import ModelIdentity, sample_weights
from motioncache.foreign import check_modules
from motioncache.policies.none import NoCache
from motioncache.policies.policy import Policy
from motioncache_magi.cache.config import MagiReuseConfig, Output
from motioncache_magi.cache.cost import MagiCost
from motioncache_magi.cache.flowcache import CompressedSampler, MagiFlowCacheConfig
from motioncache_magi.cache.reuse import EngineReuse
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.sampling.guidance import deciding_branch
from motioncache_magi.sampling.options import MemoryOptions
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.sampling.schedule import WindowSchedule


def identity_of(transformer: VideoDiT) -> ModelIdentity:
    """What a calibration says that it was measured on."""
    config = transformer.config
    weights = sample_weights(getattr(transformer.final_linear.linear, "weight", None))
    return ModelIdentity(config.num_layers, config.hidden_size, weights)


def check_transformer(transformer: object) -> None:
    """Refuse a transformer that is none of ours, and one with hooks of others or compiled parts in its layers."""
    if not isinstance(transformer, VideoDiT):
        raise MotionCacheError(
            f"the pipeline's transformer is a {type(transformer).__name__}; use a pipeline with a VideoDiT"
        )
    if getattr(transformer, "_is_cached", False):
        raise MotionCacheError("another cache is on for this transformer: cache-dit. Disable it first")
    check_modules(transformer, {}, {transformer})


class MagiHook:
    """Makes the samplers of a pipeline, and gives them an engine. Nothing is patched: the pipeline has a place for it.

    Args:
        presets: the model's presets file.
    """

    def __init__(self, pipeline: Any, config: PolicyConfig, *, presets: Path) -> None:
        check_transformer(pipeline.transformer)
        self._pipeline = pipeline
        self._transformer = pipeline.transformer
        self.config = config
        self.engine = Engine(NoCache())
        self._cost: MagiCost | None = None
        self._planner = config.planner(presets) if isinstance(config, ForecastConfig) else None
        if self._planner is not None:
            self._planner.check_model(identity_of(pipeline.transformer), pipeline.transformer)
        pipeline.create_sampler = self.create_sampler

    @property
    def reuse_config(self) -> MagiReuseConfig:
        """How the tokens that are not computed move on."""
        if isinstance(self.config, ForecastConfig):
            return MagiReuseConfig(output=Output.velocity)
        return self.config if isinstance(self.config, MagiReuseConfig) else MagiReuseConfig()

    def create_sampler(self, model: VideoDiT, settings: Settings, latents: torch.Tensor, **options: Any) -> Sampler:
        """A sampler of one video that this cache takes part in; see `Sampler` for the arguments.

        Raises:
            MotionCacheError: if another video is being sampled.
        """
        if model is not self._transformer:
            raise MotionCacheError(
                "the pipeline has another transformer than when the cache was enabled: a "
                f"{type(model).__name__}. Call disable_cache and enable_cache again"
            )
        check_transformer(model)
        if not self.engine.is_idle:
            raise MotionCacheError(
                "this pipeline is sampling a video already (another stream or thread), and its cache serves one at a "
                "time: finish or close that stream, or use a pipeline of its own for each"
            )
        settings = self.prepare(settings, latents, len(options["captions"][-1].embedded))
        return self.sampler()(model, settings, latents, reuse=self.create_reuse(settings), **options)

    def prepare(self, settings: Settings, latents: torch.Tensor, text_length: int) -> Settings:
        """Give the engine the policy of a video; the settings come back with what the policy says of memory."""
        self._cost = MagiCost(config=self._pipeline.config, schedule=settings.schedule, text_length=text_length)
        _, _, height, width = latents.shape
        tokens_per_chunk = settings.chunk_frames * (height // 2) * (width // 2)
        self.engine.policy = self._create_policy(settings, self._cost, tokens_per_chunk)
        return replace(settings, options=self.memory_options(settings.options))

    def memory_options(self, options: MemoryOptions) -> MemoryOptions:
        """A pipeline's options, with those of the policy."""
        at_once = 1 if self.config.split_guidance and options.chunks_at_once is None else options.chunks_at_once
        return replace(options, kv=self.config.kv, chunks_at_once=at_once)

    def sampler(self) -> Callable[..., Sampler]:
        """The sampling loop that the policy asks for."""
        config = self.config
        if isinstance(config, MagiFlowCacheConfig) and config.past_chunks is not None:
            return partial(CompressedSampler, past_chunks=config.past_chunks, importance=config.importance)
        return Sampler

    def create_reuse(self, settings: Settings) -> EngineReuse:
        """What takes part in the sampling of one video."""
        config = self.reuse_config
        together = config.refresh_clean and self.engine.policy.computes_together(settings.schedule.starts)
        return EngineReuse(self.engine, config, deciding_branch(settings.guidance), keeps_active=not together)

    def _create_policy(self, settings: Settings, cost: MagiCost, tokens_per_chunk: int) -> Policy:
        if isinstance(self.config, MagiReuseConfig):
            return self.config.create_policy(settings.schedule)
        if self._planner is not None:
            shares = {deciding_branch(settings.guidance): 1.0}  # the engine sees guided velocities
            return self._planner.plan(cost.profile(tokens_per_chunk), identity_of(self._transformer), shares)
        return NoCache()

    @property
    def calibration(self) -> str | None:
        """What velocities are forecast with, in words; None for policies that forecast nothing."""
        return None if self._planner is None else self._planner.used

    def cost(self) -> MagiCost:
        """FLOPs of the last video."""
        if self._cost is None:
            schedule = WindowSchedule(chunks=1, prefix_chunks=0, steps=4, window=4, ranges=(), clean_range=1)
            return MagiCost(config=self._pipeline.config, schedule=schedule, text_length=0)
        return self._cost

    def undo(self) -> None:
        """Give the pipeline back without a cache, and free all state."""
        vars(self._pipeline).pop("create_sampler", None)
        self.engine.drop()
