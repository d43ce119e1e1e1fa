"""One video on several processes: the same as on one, with a part of its keys and values on each."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import motioncache
from motioncache import ForecastConfig, NoCacheConfig
from motioncache.api import get_hook
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_magi.pipeline import MagiPipeline

from ..calibration import write_calibration
from ..ranks import run_on_ranks
from .conftest import random_dit, small_config
from .test_pipeline import load


@pytest.fixture(scope="module")
def make(base: Path, distilled: Path) -> Callable[[str], MagiPipeline]:
    """Makes pipelines whose models have four heads of keys and values, and guide so that rounding stays what it is."""
    loaded = {"base": load(base), "distill": load(distilled)}

    def make(kind: str) -> MagiPipeline:
        pipeline, config = loaded[kind], small_config(kind, num_query_groups=4)
        runtime = replace(config.runtime, text_scales=tuple(min(scale, 1.0) for scale in config.runtime.text_scales))
        pipeline.config, pipeline.transformer = replace(config, runtime=runtime), random_dit(config.model)
        return pipeline

    return make


def sample(pipeline: MagiPipeline, calibration: str, parallel: str | None) -> dict[str, Any]:
    policies = {
        "exact": NoCacheConfig(),
        "slow": MagiMotionCacheConfig(warmup=1, chunk_phase_steps=2, threshold=0.05, token_threshold=0.1),
        "forecast": ForecastConfig(target_speedup=1.5, calibration=calibration),
    }
    found = {}
    for name, policy in policies.items():
        with motioncache.cached(pipeline, policy, parallel=parallel) as statistics:
            noise = torch.Generator().manual_seed(3)
            steps = 4 if name == "forecast" else 8  # forecasts enlarge rounding, step after step
            call = {"num_frames": 48, "num_inference_steps": steps, "output_type": "latent"}
            latents = pipeline("a red circle", generator=noise, **call).frames
            hook: Any = get_hook(pipeline)
            records = [(r.iteration, r.branch, r.chunk, r.computed) for r in hook.engine.trace.records]
        found[name] = (latents, records, statistics.summary().flops)
    return found


@pytest.mark.parametrize(
    ("kind", "ways"),
    [("base", [(2, "cfg"), (3, "cfg"), (2, "ulysses"), (4, "cfg+ulysses")]), ("distill", [(4, "ulysses")])],
)
def test_several_processes_sample_the_video_of_one(
    kind: str, ways: list[tuple[int, str]], make: Callable[[str], MagiPipeline], tmp_path: Path
) -> None:
    pipeline = make(kind)
    calibration = write_calibration(tmp_path, identity_of(pipeline.transformer))
    alone = sample(pipeline, calibration, None)
    for size, parallel in ways:
        for found in run_on_ranks(size, sample, pipeline, calibration, parallel):
            for name, (latents, records, flops) in found.items():
                expected = alone[name]
                # One process that runs the branches apart differs as much: other shapes are rounded otherwise.
                assert (latents - expected[0]).abs().max() < 1e-5 * expected[0].abs().max()
                assert records == expected[1]
                assert flops == expected[2]
