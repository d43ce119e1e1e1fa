"""One video on several processes: the same as on one, with a part of its keys and values on each."""

import importlib
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import motioncache
from motioncache import ForecastConfig, NoCacheConfig
from motioncache.api import get_hook
from motioncache.parallel import Traffic
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_magi.pipeline import MagiPipeline

from ..calibration import write_calibration
from ..ranks import run_on_ranks
from .conftest import random_dit, small_config
from .test_pipeline import load

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
Pass = importlib.import_module("write_gpus").Pass


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
            traffic = hook.ranks.traffic if parallel else None
        found[name] = (latents, records, statistics.summary().flops, traffic)
    return found


def check_traffic(records: list[tuple[int, str, int, int]], size: int, traffic: Traffic) -> None:
    """What the processes have counted is what the page of several GPUs says of an iteration, for each of them."""
    rows: Counter[int] = Counter()
    for iteration, _, _, computed in records:
        rows[iteration] += computed
    passes = [Pass(layers=2, rows=n, width=64, exchanged=4 * 64, velocities=0, bytes=4) for n in rows.values()]
    expected = [one.ulysses(size) for one in passes]
    assert traffic.calls["all-to-all"] + traffic.calls["all-gather"] == sum(number for number, _ in expected)
    assert traffic.sent["all-to-all"] + traffic.sent["all-gather"] == sum(sent for _, sent in expected)


def sample_otherwise(pipeline: MagiPipeline, parallel: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Without a cache, and as a stream."""

    def call() -> dict[str, Any]:
        noise = torch.Generator().manual_seed(3)
        return {"num_frames": 48, "num_inference_steps": 8, "output_type": "latent", "generator": noise}

    with motioncache.uncached(pipeline, parallel=parallel):
        uncached = pipeline("a red circle", **call()).frames
    with motioncache.cached(pipeline, "exact", parallel=parallel):
        chunks = list(motioncache.stream(pipeline, "a red circle", **call()))
    return uncached, torch.cat(chunks, dim=1)[None]


@pytest.mark.parametrize(("kind", "size", "parallel"), [("base", 3, "cfg"), ("distill", 2, "ulysses")])
def test_without_a_cache_and_as_a_stream_it_is_the_same_video(
    kind: str, size: int, parallel: str, make: Callable[[str], MagiPipeline]
) -> None:
    pipeline = make(kind)
    noise = torch.Generator().manual_seed(3)
    call = {"num_frames": 48, "num_inference_steps": 8, "output_type": "latent"}
    alone = pipeline("a red circle", generator=noise, **call).frames
    for videos in run_on_ranks(size, sample_otherwise, pipeline, parallel):
        for latents in videos:
            assert (latents - alone).abs().max() < 1e-5 * alone.abs().max()


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
            for name, (latents, records, flops, _) in found.items():
                expected = alone[name]
                # One process that runs the branches apart differs as much: other shapes are rounded otherwise.
                assert (latents - expected[0]).abs().max() < 1e-5 * expected[0].abs().max()
                assert records == expected[1]
                assert flops == expected[2]
            if parallel == "ulysses":
                check_traffic(found["exact"][1], size, found["exact"][3])
