"""Keys and values that are kept in another form, or not at all, and what that changes: nothing, but for int8."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import motioncache
from motioncache import ForecastConfig, NoCacheConfig
from motioncache.config import KVStorage
from motioncache.errors import ConfigError
from motioncache_eval.measured_memory import KV, OUTPUTS, TEXT_KV, MemorySettings
from motioncache_magi.cache.flowcache import MagiFlowCacheConfig
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_magi.measure import measure_released
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling import sampler
from motioncache_magi.sampling.layered_kv import LayeredKVCache

from ..calibration import write_calibration
from .test_pipeline import load

SLOW = MagiMotionCacheConfig(warmup=1, chunk_phase_steps=2, threshold=0.005, token_threshold=0.01)


@pytest.fixture(scope="module", params=["distilled", "base"])
def pipe(request: pytest.FixtureRequest) -> MagiPipeline:
    return load(request.getfixturevalue(request.param))


def sample(pipe: MagiPipeline, policy: Any, kv: str = "model") -> torch.Tensor:
    noise = torch.Generator().manual_seed(3)
    with motioncache.cached(pipe, policy, kv=kv):
        return pipe("a red circle", generator=noise, num_frames=120, output_type="latent").frames


def policies(pipe: MagiPipeline, tmp_path: Path) -> dict[str, Any]:
    calibration = write_calibration(tmp_path, identity_of(pipe.transformer))
    forecast = ForecastConfig(target_speedup=1.5, calibration=calibration)
    return {"exact": NoCacheConfig(), "slow": SLOW, "forecast": forecast}


def test_what_is_not_kept_changes_nothing(pipe: MagiPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all chunks kept from step to step, as was done before, the videos are the same to the last bit."""
    for name, policy in policies(pipe, tmp_path).items():
        few = sample(pipe, policy)
        with monkeypatch.context() as patch:
            patch.setattr(sampler.Sampler, "_keeps_all", True)
            assert torch.equal(sample(pipe, policy), few), name


def test_the_host_changes_nothing_and_int8_little(pipe: MagiPipeline, tmp_path: Path) -> None:
    for name, policy in policies(pipe, tmp_path).items():
        expected = sample(pipe, policy)
        assert torch.equal(sample(pipe, policy, "host"), expected), name
        error = (sample(pipe, policy, "int8") - expected).norm() / expected.norm()
        assert error < 0.05, (name, error)
        assert error > 0 or name == "forecast", name  # whose few steps here compute all that they see


def test_no_chunk_is_kept_that_nothing_reads_again(pipe: MagiPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """`exact` keeps clean chunks alone: at most one, which all branches share, as chunks see one before the window."""
    kept: list[set[int]] = []
    end = LayeredKVCache.end

    def watch(cache: LayeredKVCache) -> None:
        end(cache)
        kept.append({chunk for _, chunk in cache._kept})

    monkeypatch.setattr(LayeredKVCache, "end", watch)
    sample(pipe, NoCacheConfig())
    assert {len(chunks) for chunks in kept} == {0, 1}
    assert [max(chunks) for chunks in kept if chunks] == sorted(max(chunks) for chunks in kept if chunks)


def test_what_cannot_be_kept_otherwise_is_refused_by_name(pipe: MagiPipeline) -> None:
    compressed = MagiFlowCacheConfig(past_chunks=1)
    with pytest.raises(ConfigError, match="kv=int8: past_chunks compresses keys and values as they are"):
        motioncache.enable_cache(pipe, compressed, kv="int8")
    with pytest.raises(ConfigError, match="allowed: model, int8, host"):
        motioncache.enable_cache(pipe, compressed, kv="int4")


def test_the_real_sizes_fit_the_cards_that_they_are_to_fit() -> None:
    """Weights, keys and values, and activations, in GB, without text and kept outputs; a long video."""

    def total(name: str, **settings: Any) -> float:
        measured = measure_released(name, replace(MemorySettings(num_frames=240), **settings))
        stage = next(stage for stage in measured.stages if stage.name == "sampling")
        apart = stage.parts[TEXT_KV] + stage.parts.get(OUTPUTS, 0)
        return (measured.weights["transformer"] + stage.bytes - apart) / 1e9

    assert total("4.5B_distill", preset="slow") < 20.9
    assert total("4.5B_base", preset="exact") < 30
    assert total("24B_distill", preset="slow") < 79.5
    assert total("24B_distill_quant", preset="slow") < 55
    assert total("4.5B_base", preset="slow", kv="int8") < 30


def test_the_forms_take_what_they_are_said_to() -> None:
    def keys(preset: str, kv: str) -> int:
        measured = measure_released("4.5B_distill", MemorySettings(preset=preset, kv=kv))
        return next(stage for stage in measured.stages if stage.name == "sampling").parts[KV]

    chunk = 2 * 34 * 6 * 45 * 45 * 8 * 128 * 2  # bytes of a chunk in all layers: 1.69 GB
    assert keys("slow", "model") == 4 * chunk  # 96 frames have four chunks
    assert keys("slow", "int8") < 0.56 * 4 * chunk
    assert keys("exact", "host") < 0.3 * chunk
    assert KVStorage("model") is KVStorage.model
