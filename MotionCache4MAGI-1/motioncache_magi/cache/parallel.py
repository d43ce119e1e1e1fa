"""MAGI-1 in several processes that sample one video together, with a cache and without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from motioncache.config import KVStorage, PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.parallel import Parallel, Ranks, check_alike, split_ranks
from motioncache.policies.agreed import Agreed
from motioncache.policies.policy import Policy
from motioncache_magi.cache.cost import MagiCost
from motioncache_magi.cache.flowcache import MagiFlowCacheConfig
from motioncache_magi.cache.hook import MagiHook, check_transformer
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.sampling.guidance import Guidance, branches_of
from motioncache_magi.sampling.parallel import ParallelSampler
from motioncache_magi.sampling.sampler import Sampler, Settings


def ranks_of(pipeline: Any, parallel: Parallel) -> Ranks:
    """Divide a pipeline's model among the processes."""
    branches, heads = divided_parts(pipeline.config, pipeline.transformer)
    return split_ranks(parallel, branches=branches, heads=heads, device=torch.device(pipeline.device))


def divided_parts(config: MagiConfig, model: VideoDiT) -> tuple[int, int]:
    """Branches and heads that can be divided; the pass of a nearly clean chunk is no branch by itself."""
    guidance = Guidance.of(config)
    return 1 if guidance.distilled else len(branches_of(guidance)), model.config.num_query_groups


class ParallelHook(MagiHook):
    """Sees to it that all processes sample the same video: that of the first one."""

    def __init__(self, pipeline: Any, config: PolicyConfig, *, presets: Path, ranks: Ranks) -> None:
        if isinstance(config, MagiFlowCacheConfig) and config.past_chunks is not None:
            raise MotionCacheError("past_chunks compresses keys and values in one process only: pass past_chunks=null")
        if config.kv is not KVStorage.model and ranks.branches.size > 1:
            raise MotionCacheError(f"kv={config.kv.value}: CFG branches on several processes keep kv=model")
        self.ranks = ranks
        super().__init__(pipeline, config, presets=presets)

    def create_sampler(self, model: VideoDiT, settings: Settings, latents: torch.Tensor, **options: Any) -> Sampler:
        latents = share_inputs(self.ranks, settings, latents, options)
        return super().create_sampler(model, settings, latents, **options)

    def sampler(self) -> Callable[..., Sampler]:
        return partial(ParallelSampler, ranks=self.ranks)

    def _create_policy(self, settings: Settings, cost: MagiCost, tokens_per_chunk: int) -> Policy:
        return Agreed(super()._create_policy(settings, cost, tokens_per_chunk), self.ranks.world.first)


def share_inputs(ranks: Ranks, settings: Settings, latents: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """The noise of the first process; in `options`, its given frames take the place of one's own.

    Raises:
        MotionCacheError: if the processes were called with different sizes.
    """
    schedule, prefix = settings.schedule, options["prefix"]
    texts = [len(text.embedded) for text in options["captions"]]
    called = {"size": latents, "num_inference_steps": schedule.steps, "image or video": prefix, "tokens": str(texts)}
    check_alike(ranks.world, called)
    if prefix is not None:
        options["prefix"] = ranks.world.first(prefix)
    return ranks.world.first(latents)


@contextmanager
def uncached_parallel(pipeline: Any, ranks: Ranks) -> Iterator[None]:
    """Let the pipeline sample without a cache in all processes, for the length of the block."""
    check_transformer(pipeline.transformer)

    def create_sampler(model: VideoDiT, settings: Settings, latents: torch.Tensor, **options: Any) -> Sampler:
        latents = share_inputs(ranks, settings, latents, options)
        return ParallelSampler(model, settings, latents, ranks=ranks, **options)

    pipeline.create_sampler = create_sampler
    try:
        yield
    finally:
        vars(pipeline).pop("create_sampler", None)
