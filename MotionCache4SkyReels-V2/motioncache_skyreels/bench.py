"""SkyReels-V2 for `motioncache_eval.bench`."""

from collections.abc import Sequence
from pathlib import Path

from motioncache.config import PolicyConfig
from motioncache.presets import Policies
from motioncache_eval.bench.ablation import ABLATION
from motioncache_eval.bench.model import BenchModel, own_demo, weights_hash
from motioncache_skyreels.baselines import create_baselines
from motioncache_skyreels.compat.published import PublishedAdapter
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.model import SkyReelsJobs
from motioncache_skyreels.opening import WindowOpener, guidance_shares, identity_of
from motioncache_skyreels.peers import PEERS, HiCacheConfig, HiCacheOpener, ScopeConfig, ScopeOpener

POLICIES: Policies = {**PublishedAdapter.policies, **ABLATION, **PEERS}


class BenchAdapter(PublishedAdapter):
    """Serves the policies of the product, the published ones, the ablation's and those of others."""

    policies: Policies = POLICIES

    def opener_of(self, config: PolicyConfig) -> type[WindowOpener]:
        if isinstance(config, ScopeConfig):
            return ScopeOpener
        return HiCacheOpener if isinstance(config, HiCacheConfig) else super().opener_of(config)


def load(config: Path | None, overrides: Sequence[str]) -> BenchModel:
    """See `motioncache_eval.jobs.JobModel.bench`."""
    model = SkyReelsJobs()
    loaded = model.load(model.read(config or own_demo(model.config), overrides))
    pipeline, job = loaded.pipeline, loaded.job
    pipeline.set_progress_bar_config(disable=True)
    return BenchModel.of(
        loaded,
        BenchAdapter(),
        transformer=pipeline.transformer,
        weights=weights_hash(pipeline.transformer),
        model_methods=("forward",),
        guidance=guidance,
        identity=identity_of(pipeline.transformer, job.guidance_scale),
        baselines=create_baselines(),
        chunks=(4 * job.causal_block_size - 3, 4 * job.causal_block_size),
    )


def guidance(job: JobConfig) -> dict[str, float]:
    """See `BenchModel.guidance`."""
    return guidance_shares(job.guidance_scale)
