"""MAGI-1 for `motioncache_eval.bench`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from motioncache.presets import Policies
from motioncache_eval.bench.ablation import ABLATION
from motioncache_eval.bench.model import BenchModel, own_demo, weights_hash
from motioncache_magi.baselines import BASELINES
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.compat.published import PublishedAdapter
from motioncache_magi.job.config import load_magi_job
from motioncache_magi.job.sample import decode, load_pipeline, quiet_libraries, run_pipeline, warm_up

DEFAULT_CONFIG = Path(__file__).parents[1] / "addconfig" / "job.yaml"
"""The demo's configuration in the repository; an installed wheel has none."""

POLICIES: Policies = {**PublishedAdapter.policies, **ABLATION}


class BenchAdapter(PublishedAdapter):
    """Serves the policies of the product, the published ones and the ablation's."""

    policies: Policies = POLICIES


def load(config: Path | None, overrides: Sequence[str]) -> BenchModel:
    """See `motioncache_eval.bench.model.Loader`."""
    quiet_libraries()
    pipeline, job = load_pipeline(load_magi_job(config or own_demo(DEFAULT_CONFIG), overrides))
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline.config.runtime.chunk_width * pipeline.config.runtime.temporal_downsample_factor
    return BenchModel(
        adapter=BenchAdapter(),
        job=job,
        pipeline=pipeline,
        call=run_pipeline,
        decode=partial(decode, pipeline),
        warm_up=partial(warm_up, pipeline),
        transformer=pipeline.transformer,
        weights=weights_hash(pipeline.transformer),
        model_methods=("embed_text", "condition", "embed", "run_layers", "head"),
        baselines=BASELINES,
        branch=pipeline.branch,
        guidance=lambda _: {pipeline.branch: 1.0},  # the engine sees guided velocities
        identity=identity_of(pipeline.transformer),
        chunks=(frames, frames),
    )
