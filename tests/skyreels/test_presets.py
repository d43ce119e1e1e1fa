"""What a user may choose a policy by."""

import pytest
import torch

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError
from motioncache.forecast.budget import shipped_calibration
from motioncache.registry import resolve_preset
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_skyreels.adapter import SkyReelsAdapter

from .conftest import generate, make_pipeline

ADAPTERS = [SkyReelsAdapter(), MagiAdapter()]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["SkyReels-V2", "MAGI-1"])
def test_a_target_alone_chooses_forecast(adapter: SkyReelsAdapter | MagiAdapter) -> None:
    assert resolve_preset(adapter, None, 4) == ForecastConfig(target_speedup=4.0)
    assert resolve_preset(adapter, "forecast", 4) == ForecastConfig(target_speedup=4.0)
    assert isinstance(resolve_preset(adapter, "forecast"), ForecastConfig)


def test_a_target_belongs_to_forecast() -> None:
    with pytest.raises(
        MotionCacheError, match="target_speedup belongs to the policy forecast, and not to preset 'slow'"
    ):
        motioncache.enable_cache(make_pipeline(), "slow", target_speedup=4)
    with pytest.raises(MotionCacheError, match="not to a MotionCacheConfig"):
        motioncache.enable_cache(make_pipeline(), MotionCacheConfig(), target_speedup=4)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["SkyReels-V2", "MAGI-1"])
@pytest.mark.parametrize(("old", "new"), [("paper-slow", "slow"), ("paper-fast", "fast"), ("turbo", "forecast")])
def test_an_old_name_says_the_new_one(adapter: SkyReelsAdapter | MagiAdapter, old: str, new: str) -> None:
    with pytest.raises(MotionCacheError, match=f"the preset '{old}' is now called '{new}'"):
        resolve_preset(adapter, old)
    resolve_preset(adapter, new)


def test_a_file_of_another_model_is_an_error_when_the_cache_is_enabled() -> None:
    pipeline = make_pipeline()
    named = ForecastConfig(target_speedup=3, calibration=str(shipped_calibration(SkyReelsAdapter().presets())))
    message = "measured on depth 6 and width 128, not 2 and 48: pass calibration=auto"
    with pytest.raises(MotionCacheError, match=message):
        motioncache.enable_cache(pipeline, named)
    before = generate(pipeline)  # nothing is hooked
    with motioncache.cached(pipeline, named, allow_foreign_calibration=True) as statistics:
        generate(pipeline)
    assert "calibration.json, of another model: depth 6" in str(statistics)
    assert torch.equal(generate(pipeline), before)


def test_a_target_is_met(measured: str) -> None:
    pipeline = make_pipeline()
    config = ForecastConfig(calibration=measured)
    with motioncache.cached(pipeline, config, target_speedup=3) as statistics:
        generate(pipeline)
    summary = statistics.summary()
    assert summary.vanilla_flops / summary.flops == pytest.approx(3, rel=0.05)


def test_a_mapping_is_a_preset() -> None:
    mapping = {"policy": "motioncache", "threshold": 0.3}
    assert resolve_preset(SkyReelsAdapter(), mapping) == MotionCacheConfig(threshold=0.3)
    with pytest.raises(MotionCacheError, match=r"preset\.policy: 'teacup' is not a policy"):
        resolve_preset(SkyReelsAdapter(), {"policy": "teacup"})
    with pytest.raises(MotionCacheError, match=r"preset: unknown key 'treshold'; known keys:"):
        resolve_preset(SkyReelsAdapter(), {"policy": "motioncache", "treshold": 0.3})
