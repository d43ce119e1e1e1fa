"""MAGI-1 for `motioncache_eval.bench`."""

from collections.abc import Sequence
from pathlib import Path

from motioncache.presets import Policies
from motioncache_eval.bench.ablation import ABLATION
from motioncache_eval.bench.model import BenchModel, own_demo, weights_hash
from motioncache_magi.baselines import BASELINES
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.compat.published import PublishedAdapter
from motioncache_magi.job.model import MagiJobs
from motioncache_magi.peers import PEERS

POLICIES: Policies = {**PublishedAdapter.policies, **ABLATION, **PEERS}


class BenchAdapter(PublishedAdapter):
    """Serves the policies of the product, the published ones, the ablation's and those of others."""

    policies: Policies = POLICIES


def load(config: Path | None, overrides: Sequence[str]) -> BenchModel:
    """See `motioncache_eval.jobs.JobModel.bench`."""
    model = MagiJobs()
    loaded = model.load(model.read(config or own_demo(model.config), overrides))
    pipeline = loaded.pipeline
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline.config.runtime.chunk_width * pipeline.config.runtime.temporal_downsample_factor
    return BenchModel.of(
        loaded,
        BenchAdapter(),
        transformer=pipeline.transformer,
        weights=weights_hash(pipeline.transformer),
        model_methods=("embed_text", "condition", "embed", "run_layers", "head"),
        baselines=BASELINES,
        guidance=lambda _: {pipeline.branch: 1.0},  # the engine sees guided velocities
        identity=identity_of(pipeline.transformer),
        chunks=(frames, frames),
    )
