"""SkyReels-V2 for `motioncache_eval.bench`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from motioncache.presets import Policies
from motioncache_eval.bench.ablation import ABLATION
from motioncache_eval.bench.model import BenchModel, weights_hash
from motioncache_skyreels.baselines import create_baselines
from motioncache_skyreels.cli import quiet_libraries
from motioncache_skyreels.compat.published import PublishedAdapter
from motioncache_skyreels.job.config import JobConfig, load_job
from motioncache_skyreels.job.load import check_size, load_pipeline
from motioncache_skyreels.job.sample import decode, run_pipeline, warm_up
from motioncache_skyreels.opening import guidance_shares, identity_of
from motioncache_skyreels.window import BRANCHES

POLICIES: Policies = {**PublishedAdapter.policies, **ABLATION}


class BenchAdapter(PublishedAdapter):
    """Serves the policies of the product, the published ones and the ablation's."""

    policies: Policies = POLICIES


def load(config: Path, overrides: Sequence[str]) -> BenchModel:
    """See `motioncache_eval.bench.model.Loader`."""
    quiet_libraries()
    job = load_job(config, overrides)
    pipeline = load_pipeline(job)
    check_size(pipeline, job)
    pipeline.set_progress_bar_config(disable=True)
    return BenchModel(
        adapter=BenchAdapter(),
        job=job,
        pipeline=pipeline,
        call=run_pipeline,
        decode=lambda _, latents: decode(pipeline, latents),
        warm_up=partial(warm_up, pipeline),
        transformer=pipeline.transformer,
        weights=weights_hash(pipeline.transformer),
        model_methods=("forward",),
        branch=BRANCHES[0],
        guidance=guidance,
        identity=identity_of(pipeline.transformer, job.guidance_scale),
        baselines=create_baselines(),
        chunks=(4 * job.causal_block_size - 3, 4 * job.causal_block_size),
    )


def guidance(job: JobConfig) -> dict[str, float]:
    """See `BenchModel.guidance`."""
    return guidance_shares(job.guidance_scale)
