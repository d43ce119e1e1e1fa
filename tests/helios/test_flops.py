"""The closed form of the FLOPs against PyTorch's own counter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import HeliosTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, NoCacheConfig
from motioncache.api import get_hook
from motioncache_helios.adapter import HeliosAdapter
from motioncache_helios.cost import HeliosCost, HistoryTokens

from .conftest import generate, make_pipeline


def counted(run: Callable[[], Any], transformer: torch.nn.Module) -> int:
    """FLOPs inside the transformer. The math backend is counted; the CPU's flash kernel is not, it would give zero."""
    counters: list[FlopCounterMode] = []

    def start(*_: Any) -> None:
        counters.append(FlopCounterMode(display=False))
        counters[-1].__enter__()

    def stop(*_: Any) -> None:
        counters[-1].__exit__(None, None, None)

    hooks = [transformer.register_forward_pre_hook(start), transformer.register_forward_hook(stop)]
    with sdpa_kernel(SDPBackend.MATH):
        run()
    for hook in hooks:
        hook.remove()
    return sum(counter.get_total_flops() for counter in counters)


@pytest.mark.parametrize("options", [{}, {"guidance_cross_attn": False, "zero_history_timestep": False}], ids=str)
def test_the_trace_counts_what_was_computed(
    options: dict[str, bool], config: Callable[..., MotionCacheConfig], measured: str
) -> None:
    pipeline = make_pipeline(**options)
    vanilla = counted(lambda: generate(pipeline), pipeline.transformer)
    forecast = ForecastConfig(target_speedup=4.0, calibration=measured, allow_foreign_calibration=True)
    for policy in (NoCacheConfig(), config(), config(chunk_phase_updates=None), forecast):
        with motioncache.cached(pipeline, policy, adapter=HeliosAdapter()) as statistics:
            flops = counted(lambda: generate(pipeline), pipeline.transformer)
            cost = get_hook(pipeline).cost()
        # The distance table of each chunk embeds the 10 timesteps of the schedule, on the host.
        once = cost.time() // (2 if cost.embeds_zero else 1)
        tables = 2 * 10 * once if isinstance(policy, MotionCacheConfig) else 0
        assert statistics.summary().flops == flops - tables, policy
        assert statistics.summary().vanilla_flops == vanilla


@pytest.mark.parametrize("target", [2.0, 4.0])
def test_a_forecast_keeps_its_budget(measured: str, target: float) -> None:
    pipeline = make_pipeline()
    policy = ForecastConfig(target_speedup=target, calibration=measured)
    with motioncache.cached(pipeline, policy, adapter=HeliosAdapter()) as statistics:
        generate(pipeline, num_inference_steps=30)
    summary = statistics.summary()
    assert summary.vanilla_flops / summary.flops == pytest.approx(target, rel=0.03)


def test_the_readme_says_what_helios_base_takes() -> None:
    with torch.device("meta"):
        cost = HeliosCost.of(HeliosTransformer3DModel(), 512, HistoryTokens(short=1920, mid=240, long=240))
    tokens = 8640  # 9 latent frames of 24x40
    once, computed = cost.text() + cost.embed_history(), cost.call(tokens, tokens, forecast=False)
    vanilla = computed + once
    history = cost.blocks(tokens, tokens) - replace(cost, history=HistoryTokens()).blocks(tokens, tokens)
    page = (Path(__file__).parents[2] / "MotionCache4Helios" / "README.md").read_text()
    assert f"the {vanilla / 1e12:.0f} TFLOPs of one model call" in page
    assert f"`exact` saves\n{once / vanilla:.1%}".replace("%", " %") in page
    assert f"takes {history / vanilla:.0%}".replace("%", " %") in page
