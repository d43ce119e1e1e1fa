"""One video on several processes: the same as on one, with a part of its keys and values on each."""

from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2Transformer3DModel

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, NoCacheConfig
from motioncache.api import get_hook
from motioncache.config import PolicyConfig
from motioncache_skyreels.opening import identity_of

from ..calibration import write_calibration
from ..ranks import run_on_ranks
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


SHORT: dict[str, Any] = {"num_frames": 57, "base_num_frames": 57, "num_inference_steps": 8}

POLICIES: dict[str, PolicyConfig] = {
    "exact": NoCacheConfig(),
    "slow": MotionCacheConfig(
        warmup=1, chunk_phase_updates=1, threshold=0.25, coefficients=COEFFICIENTS, temporal_vote=None,
        minimum_update_ratio=0.0,
    ),
}  # fmt: skip


def sample(parallel: str | None, calibration: str) -> dict[str, Any]:
    found = {}
    forecast = ForecastConfig(target_speedup=2.0, calibration=calibration)
    for name, policy in {**POLICIES, "forecast": forecast}.items():
        pipeline = make()
        with motioncache.cached(pipeline, policy, parallel=parallel) as statistics:
            latents = generate(pipeline, **SHORT)
            hook: Any = get_hook(pipeline)
            records = [(r.iteration, r.branch, r.chunk, r.computed) for r in hook.engine.trace.records]
            traffic = hook.ranks.traffic if parallel else None
        found[name] = (latents, records, statistics.summary().flops, traffic)
    return found


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_calibration(tmp_path_factory.mktemp("calibration"), identity_of(make().transformer, 6.0))


@pytest.fixture(scope="module")
def alone(calibration: str) -> dict[str, Any]:
    return sample(None, calibration)


@pytest.mark.parametrize(("size", "parallel"), [(2, "cfg"), (2, "ulysses"), (4, "ulysses"), (4, "cfg+ulysses")])
def test_several_processes_sample_the_video_of_one(
    size: int, parallel: str, calibration: str, alone: dict[str, Any]
) -> None:
    for found in run_on_ranks(size, sample, parallel, calibration):
        for name, (latents, records, flops, _) in found.items():
            expected = alone[name]
            assert (latents - expected[0]).abs().max() < 1e-5
            assert records == expected[1]
            assert flops == expected[2]
