"""One video on several processes: the same as on one, with a part of its keys and values on each."""

import importlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2Transformer3DModel

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, NoCacheConfig
from motioncache.api import get_hook
from motioncache.config import PolicyConfig
from motioncache.parallel import Traffic
from motioncache_skyreels.opening import identity_of

from ..calibration import write_calibration
from ..ranks import run_on_ranks
from ..streamed import Streamed
from .conftest import COEFFICIENTS, generate, make_pipeline


def make(heads: int = 4) -> Any:
    """A pipeline whose model has as many heads."""
    pipeline = make_pipeline()
    torch.manual_seed(0)
    pipeline.transformer = SkyReelsV2Transformer3DModel(
        num_attention_heads=heads, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=32,
        ffn_dim=64, num_layers=2, inject_sample_info=True,
    ).eval()  # fmt: skip
    return pipeline


sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
Pass = importlib.import_module("write_gpus").Pass

SHORT: dict[str, Any] = {"num_frames": 57, "base_num_frames": 57, "num_inference_steps": 8}

POLICIES: dict[str, PolicyConfig] = {
    "exact": NoCacheConfig(),
    "slow": MotionCacheConfig(
        warmup=1, chunk_phase_updates=1, threshold=0.25, coefficients=COEFFICIENTS, temporal_vote=None,
        minimum_update_ratio=0.0,
    ),
}  # fmt: skip


class KeptBytes:
    """The most bytes of keys and values that are kept between two iterations."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.most = 0

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        window = self._hook._calls._window
        self.most = max(self.most, 0 if window is None else bytes_of(window._cache))
        return tensors


def bytes_of(value: Any) -> int:
    """Bytes of all tensors in an object of the library."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(bytes_of, value.values()))
    if isinstance(value, tuple | list):
        return sum(map(bytes_of, value))
    return bytes_of(vars(value)) if type(value).__module__.startswith("motioncache.") else 0


def sample(parallel: str | None, calibration: str) -> dict[str, Any]:
    found = {}
    forecast = ForecastConfig(target_speedup=2.0, calibration=calibration)
    for name, policy in {**POLICIES, "forecast": forecast}.items():
        pipeline = make()
        with motioncache.cached(pipeline, policy, parallel=parallel) as statistics:
            hook: Any = get_hook(pipeline)
            kept = KeptBytes(hook)
            latents = generate(pipeline, callback_on_step_end=kept, **SHORT)
            records = [(r.iteration, r.branch, r.chunk, r.computed) for r in hook.engine.trace.records]
            traffic = hook.ranks.traffic if parallel else None
        found[name] = (latents, records, statistics.summary().flops, kept.most, traffic)
    return found


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_calibration(tmp_path_factory.mktemp("calibration"), identity_of(make().transformer, 6.0))


@pytest.fixture(scope="module")
def alone(calibration: str) -> dict[str, Any]:
    return sample(None, calibration)


def sample_uncached(parallel: str) -> tuple[torch.Tensor, bool]:
    pipeline = make()
    before = [vars(x).copy() for x in (pipeline.transformer, *pipeline.transformer.attn_processors.values())]
    with motioncache.uncached(pipeline, parallel=parallel):
        latents = generate(pipeline, **SHORT)
    after = [vars(x) for x in (pipeline.transformer, *pipeline.transformer.attn_processors.values())]
    return latents, [set(x) - {"_diffusers_hook"} for x in before] == [set(x) - {"_diffusers_hook"} for x in after]


@pytest.mark.parametrize(("size", "parallel"), [(2, "cfg"), (4, "ulysses")])
def test_without_a_cache_several_processes_sample_the_video_of_one(size: int, parallel: str) -> None:
    alone = generate(make(), **SHORT)
    for latents, undone in run_on_ranks(size, sample_uncached, parallel):
        assert (latents - alone).abs().max() < 1e-5
        assert undone


def stream(parallel: str) -> list[torch.Tensor]:
    pipeline = make()
    with motioncache.cached(pipeline, POLICIES["slow"], parallel=parallel):
        chunks: Any = generate(Streamed(pipeline), **SHORT)
        return chunks


@pytest.mark.parametrize("parallel", ["cfg", "ulysses"])
def test_a_stream_of_several_processes_is_the_video_of_one(parallel: str, alone: dict[str, Any]) -> None:
    for chunks in run_on_ranks(2, stream, parallel):
        assert len(chunks) == 3
        assert (torch.cat(chunks, dim=1) - alone["slow"][0][0]).abs().max() < 1e-5


@pytest.mark.parametrize(("size", "parallel"), [(2, "cfg"), (2, "ulysses"), (4, "ulysses"), (4, "cfg+ulysses")])
def test_several_processes_sample_the_video_of_one(
    size: int, parallel: str, calibration: str, alone: dict[str, Any]
) -> None:
    for found in run_on_ranks(size, sample, parallel, calibration):
        for name, (latents, records, flops, kept, _) in found.items():
            expected = alone[name]
            assert (latents - expected[0]).abs().max() < 1e-5
            assert records == expected[1]
            assert flops == expected[2]
            assert kept * size == expected[3] > 0
        check_traffic(parallel, size, found["exact"][1], traffic=found["exact"][4])


def check_traffic(parallel: str, size: int, records: list[tuple[int, str, int, int]], traffic: Traffic) -> None:
    """What the processes have counted is what the page of several GPUs says of an iteration, for each of them."""
    passes: Counter[tuple[int, str]] = Counter()
    for iteration, branch, _, computed in records:
        passes[iteration, branch if iteration == 0 else "both"] += computed
    per_pass = [
        Pass(layers=2, rows=rows, width=48, exchanged=4 * 48, velocities=0, bytes=4) for rows in passes.values()
    ]
    if parallel == "ulysses":
        expected = [one.ulysses(size) for one in per_pass]
        assert traffic.calls["all-to-all"] + traffic.calls["all-gather"] == sum(number for number, _ in expected)
        assert traffic.sent["all-to-all"] + traffic.sent["all-gather"] == sum(sent for _, sent in expected)
    if parallel == "cfg":
        assert traffic.calls["all-reduce"] == len(passes)
        assert traffic.calls["all-to-all"] == traffic.calls["all-gather"] == 0
