"""Caches of other packages in the benchmark: what they do to this model, and that nothing of them stays."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig, SeaCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2TransformerBlock

from motioncache_eval.bench.config import Method
from motioncache_eval.bench.model import BenchModel
from motioncache_skyreels.bench import load

MODEL = Path(__file__).parents[2] / "MotionCache4SkyReels-V2" / "motioncache-tiny"
SIZES = ["num_frames=37", "base_num_frames=37", "height=32", "width=48", "num_inference_steps=8", "ar_step=2"]


@pytest.fixture(scope="module")
def bench() -> BenchModel:
    return load(None, [f"model={MODEL}", "prompt=a red circle resting over a teal background", *SIZES])  # pyright: ignore


@pytest.fixture(scope="module")
def vanilla(bench: BenchModel) -> Any:
    return bench.take(bench.job, Method(name="vanilla"))


@pytest.mark.parametrize(
    ("baseline", "knobs"),
    [
        ("first-block-cache", {"threshold": 0.5}),
        ("magcache", {"threshold": 2.0}),
        ("seacache", {"threshold": 2.0, "max_consecutive_cached": 8}),
        ("hicache-pp", {"interval": 3}),
        ("hicache-pp", {"interval": 2, "backend": "dmd", "first_enhance": 3}),
        ("dbcache", {"Fn_compute_blocks": 1, "residual_diff_threshold": 1.0}),
        ("dbcache-taylorseer", {"Fn_compute_blocks": 1, "residual_diff_threshold": 1.0}),
    ],
)
def test_a_baseline_saves_something_and_leaves_nothing_behind(
    baseline: str, knobs: dict[str, Any], bench: BenchModel, vanilla: Any
) -> None:
    if baseline.startswith("dbcache"):
        pytest.importorskip("cache_dit")
    if baseline == "hicache-pp":
        pytest.importorskip("hicache_pp")
    method = Method(name=baseline, baseline=baseline, knobs=knobs)
    first, again = (bench.take(bench.job, method) for _ in range(2))
    assert first.flops == again.flops < vanilla.flops
    assert torch.equal(first.sample.latents, again.sample.latents)
    assert not torch.equal(first.sample.latents, vanilla.sample.latents)
    after = bench.take(bench.job, Method(name="vanilla"))
    assert torch.equal(after.sample.latents, vanilla.sample.latents)
    assert after.flops == vanilla.flops


def test_seacache_computes_everything_where_the_pipeline_tells_it_no_step(bench: BenchModel, vanilla: Any) -> None:
    """What a user of SeaCache meets on this pipeline; the benchmark tells it the step and a noise level."""
    transformer = bench.pipeline.transformer
    TransformerBlockRegistry.register(
        SkyReelsV2TransformerBlock,
        TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
    )
    transformer.enable_cache(SeaCacheConfig(threshold=2.0, raw_vision_callback=lambda *_: None))
    try:
        taken = bench.take(bench.job, Method(name="vanilla"))
    finally:
        transformer.disable_cache()
    assert taken.flops == vanilla.flops
    assert torch.equal(taken.sample.latents, vanilla.sample.latents)


def test_a_block_that_is_not_registered_raises(bench: BenchModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user of diffusers' caches meets on this model; the benchmark registers the block."""
    monkeypatch.setattr(TransformerBlockRegistry, "_registry", {})
    try:
        with pytest.raises(ValueError, match="SkyReelsV2TransformerBlock"):
            bench.pipeline.transformer.enable_cache(FirstBlockCacheConfig())
    finally:
        bench.pipeline.transformer._cache_config = None


def test_dbcache_as_it_ships_wants_more_blocks_than_the_small_model_has(bench: BenchModel) -> None:
    pytest.importorskip("cache_dit")
    with pytest.raises(AssertionError, match="Fn_compute_blocks 8"):
        bench.take(bench.job, Method(name="dbcache", baseline="dbcache"))
