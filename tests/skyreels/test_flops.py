"""The closed form of the FLOPs against PyTorch's own counter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import motioncache
from motioncache import MotionCacheConfig
from motioncache.api import get_hook
from motioncache_skyreels.cost import SkyReelsCost

from .conftest import generate, make_pipeline


def counted(run: Callable[[], Any], transformer: torch.nn.Module) -> int:
    """FLOPs inside the transformer. The math backend is counted; the CPU's flash kernel is not, it would give zero."""
    total = 0
    counter = FlopCounterMode(display=False)

    def start(*_: Any) -> None:
        counter.__enter__()

    def stop(*_: Any) -> None:
        nonlocal total
        counter.__exit__(None, None, None)
        total += counter.get_total_flops()

    before = transformer.register_forward_pre_hook(start)
    after = transformer.register_forward_hook(stop)
    with sdpa_kernel(SDPBackend.MATH):
        run()
    before.remove()
    after.remove()
    return total


CALLS: dict[str, dict[str, Any]] = {
    "asynchronous": {},
    "without guidance": {"guidance_scale": 1.0},
    "two windows": {"num_frames": 137, "overlap_history": 17},
    "full attention": {"ar_step": 0, "causal_block_size": 1},
}


@pytest.mark.parametrize("fps", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_the_trace_counts_what_was_computed(
    name: str, fps: bool, config: Callable[..., MotionCacheConfig], measured: str
) -> None:
    pipeline = make_pipeline(fps=fps)
    forecast = motioncache.ForecastConfig(target_speedup=4.0, calibration=measured, allow_foreign_calibration=True)
    for policy in (motioncache.NoCacheConfig(), config(), forecast):
        motioncache.enable_cache(pipeline, policy)
        flops = counted(lambda: generate(pipeline, **CALLS[name]), pipeline.transformer)
        hook = get_hook(pipeline)
        # The distance table of each window embeds the 10 timesteps of the schedule, on the host.
        tables = len(hook.engine.trace.windows) * hook.cost().time(10) if isinstance(policy, MotionCacheConfig) else 0
        assert motioncache.summary(pipeline).flops == flops - tables
        motioncache.disable_cache(pipeline)


@pytest.mark.parametrize("name", CALLS)
def test_the_vanilla_count_is_what_diffusers_runs(name: str) -> None:
    pipeline = make_pipeline()
    measured = counted(lambda: generate(pipeline, **CALLS[name]), pipeline.transformer)
    with motioncache.cached(pipeline, "exact") as statistics:
        generate(pipeline, **CALLS[name])
    assert statistics.summary().vanilla_flops == measured


def test_the_published_figures_for_the_1_3b_model() -> None:
    # 177 frames at 540P: 70 and 65 iterations of 25 latent frames of 34x60 tokens; 165.2 and 113.4 PFLOPs.
    from motioncache.grid import TokenGrid
    from motioncache.record import WindowShape

    cost = SkyReelsCost(
        layers=30,
        width=1536,
        ffn=8960,
        text_dim=4096,
        freq_dim=256,
        patch_in=64,
        patch_out=64,
        fps=True,
        text_length=512,
    )
    grid = TokenGrid(frames=25, height=34, width=60, chunk_frames=5)
    windows = [WindowShape(grid=grid, iterations=n, branches=("cond", "uncond"), causal=True) for n in (70, 65)]
    assert cost.vanilla(windows) / 1e15 == pytest.approx(165.2, abs=0.1)
    assert cost.vanilla(windows, dense=False) / 1e15 == pytest.approx(113.4, abs=0.1)
