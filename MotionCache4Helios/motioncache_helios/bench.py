"""Helios for `motioncache_eval.bench`."""

from collections.abc import Sequence
from pathlib import Path

from motioncache.presets import POLICIES, Policies
from motioncache_eval.bench.ablation import ABLATION
from motioncache_eval.bench.model import BenchModel, own_demo, weights_hash
from motioncache_helios.adapter import HeliosAdapter
from motioncache_helios.job.config import CHUNK_FRAMES, JobConfig
from motioncache_helios.job.model import HeliosJobs
from motioncache_helios.opening import guidance_shares, identity_of

BENCH_POLICIES: Policies = {**POLICIES, **ABLATION}


class BenchAdapter(HeliosAdapter):
    """Serves the policies of the product and the ablation's."""

    policies: Policies = BENCH_POLICIES


def load(config: Path | None, overrides: Sequence[str]) -> BenchModel:
    """See `motioncache_eval.jobs.JobModel.bench`."""
    model = HeliosJobs()
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
        chunks=(CHUNK_FRAMES, CHUNK_FRAMES),
    )


def guidance(job: JobConfig) -> dict[str, float]:
    """See `BenchModel.guidance`."""
    return guidance_shares(job.guidance_scale)
