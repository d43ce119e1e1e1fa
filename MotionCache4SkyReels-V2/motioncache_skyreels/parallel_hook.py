"""Hooks the pipelines of several processes that sample one video of SkyReels-V2 together."""

from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.kv_cache import KVCache
from motioncache.parallel import Parallel, Ranks, check_alike, share_random_state, split_ranks
from motioncache.policies.agreed import Agreed
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache.policies.policy import Policy
from motioncache.record import WindowShape
from motioncache_skyreels.hook import SkyReelsHook
from motioncache_skyreels.opening import WindowOpener, allocate
from motioncache_skyreels.parallel import ParallelWindow
from motioncache_skyreels.window import BRANCHES, Window


def ranks_of(pipeline: Any, parallel: Parallel) -> Ranks:
    """Divide a pipeline's model among the processes."""
    heads = pipeline.transformer.config.num_attention_heads
    return split_ranks(parallel, branches=len(BRANCHES), heads=heads, device=pipeline._execution_device)


class ParallelOpener(WindowOpener):
    """Opens windows that hold the keys and values of this process alone."""

    def __init__(self, pipeline: Any, config: PolicyConfig, presets: Path, ranks: Ranks) -> None:
        if isinstance(config, MotionCacheConfig) and config.shared_mask and ranks.branches.size > 1:
            raise MotionCacheError(
                "shared_mask lets one CFG branch decide for the other, which parallel=cfg computes in another process: "
                "pass parallel=ulysses, or shared_mask=false"
            )
        self.ranks, self.shares = ranks, ranks.world.size
        super().__init__(pipeline, config, presets)
        self.window_class = partial(ParallelWindow, ranks=ranks, branches=BRANCHES)

    def _create_policy(self) -> Policy:
        policy, heads = super()._create_policy(), self.ranks.heads
        return Agreed(policy, heads.first) if heads.size > 1 else policy

    def open(self, *args: Any, **options: Any) -> Window:
        if self.ranks.branches.size > 1 and not self._pipeline.do_classifier_free_guidance:
            raise MotionCacheError(
                f"guidance_scale={self._pipeline.guidance_scale} leaves one CFG branch, and parallel=cfg divides two: "
                "pass parallel=ulysses"
            )
        return super().open(*args, **options)

    def allocate(self, hidden_states: torch.Tensor, shape: WindowShape) -> KVCache:
        own = replace(shape, branches=self.ranks.own(shape.branches))
        return allocate(self._transformer, hidden_states, own, parts=self.ranks.heads.size)


class ParallelHook(SkyReelsHook):
    """Sees to it that all processes sample the same video: that of the first one."""

    def __init__(self, pipeline: Any, opener: ParallelOpener) -> None:
        self.ranks = opener.ranks
        super().__init__(pipeline, opener)

    def _call(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        check_alike(self.ranks.world, signature(original).bind(*args, **kwargs).arguments)
        share_random_state(self.ranks.world)  # diffusers draws the noise of addnoise_condition from it
        return super()._call(original, *args, **kwargs)

    def _prepare_latents(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """The noise and the given frames are those of the first process."""
        prepared = super()._prepare_latents(original, *args, **kwargs)
        if not isinstance(prepared, tuple):
            return prepared
        return tuple(self.ranks.world.first(x) if isinstance(x, torch.Tensor) else x for x in prepared)
