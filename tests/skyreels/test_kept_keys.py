"""Videos are the same however keys and values are kept, but for int8, which stays within its error."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError, NoCacheConfig, TeaCacheConfig
from motioncache.chunk_store import ChunkStore
from motioncache.config import KVStorage, PolicyConfig
from motioncache.forecast.policy import ForecastCache
from motioncache.kv_cache import KVCache
from motioncache.policies.none import NoCache
from motioncache.policies.teacache import TeaCache
from motioncache_skyreels.opening import WindowOpener

from .conftest import COEFFICIENTS, generate, make_pipeline

LONG = {"num_frames": 97, "overlap_history": 17, "base_num_frames": 57}
"""Two windows, of which the second one begins with a given chunk."""

SYNCHRONOUS = {"ar_step": 0, "num_frames": 57}

SHORT = {"num_inference_steps": 7, "ar_step": 2}


@pytest.fixture(params=["exact", "tokens", "chunks", "teacache", "forecast"])
def policy(request: pytest.FixtureRequest, config: Callable[..., MotionCacheConfig], measured: str) -> PolicyConfig:
    policies: dict[str, Callable[[], PolicyConfig]] = {
        "exact": NoCacheConfig,
        "tokens": config,
        "chunks": lambda: config(chunk_phase_updates=None),
        "teacache": lambda: TeaCacheConfig(warmup=1, coefficients=COEFFICIENTS, threshold=0.4),
        "forecast": lambda: ForecastConfig(target_speedup=2.0, calibration=measured),
    }
    return policies[request.param]()


def sample(policy: PolicyConfig, **call: Any) -> torch.Tensor:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, policy):
        return generate(pipeline, **{**SHORT, **call})


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the windows keep their keys and values in."""
    made: list[Any] = []
    create = WindowOpener.create_store

    def watched(*args: Any) -> Any:
        made.append(create(*args))
        return made[-1]

    monkeypatch.setattr(WindowOpener, "create_store", watched)
    return made


@pytest.mark.parametrize("call", [LONG, SYNCHRONOUS], ids=["long", "synchronous"])
def test_all_ways_of_keeping_give_the_same_video(policy: PolicyConfig, call: dict[str, Any]) -> None:
    plain = sample(policy, **call)
    for changes in ({"kv": KVStorage.host}, {"split_guidance": True}):
        ours = sample(replace(policy, **changes), **call)  # pyright: ignore
        assert (ours - plain).abs().max() < 2e-5, changes


def test_int8_costs_little_and_something(policy: PolicyConfig) -> None:
    plain, ours = sample(policy), sample(replace(policy, kv=KVStorage.int8))  # pyright: ignore
    assert (ours - plain).abs().max() > 1e-5
    assert (ours - plain).square().mean().sqrt() < 0.01 * plain.square().mean().sqrt()


@pytest.mark.parametrize("call", [LONG, SYNCHRONOUS], ids=["long", "synchronous"])
def test_chunks_that_are_computed_anyway_need_not_be_kept(
    policy: PolicyConfig, call: dict[str, Any], stores: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sample(policy, **call)
    together = isinstance(policy, NoCacheConfig | ForecastConfig)
    together |= isinstance(policy, TeaCacheConfig) and call is SYNCHRONOUS
    assert {type(store) for store in stores} == {ChunkStore if together else KVCache}
    for kind in (NoCache, TeaCache, ForecastCache):
        monkeypatch.setattr(kind, "computes_together", lambda *_: False)
    stores.clear()
    assert (sample(policy, **call) - found).abs().max() < 2e-5
    assert {type(store) for store in stores} == {KVCache}


def test_synchronous_sampling_keeps_nothing(stores: list[Any], measured: str) -> None:
    for policy in (NoCacheConfig(), ForecastConfig(target_speedup=2.0, calibration=measured)):
        sample(policy, **SYNCHRONOUS)
        assert stores.pop()._chunks == {}


def test_exact_keeps_what_has_finished(stores: list[Any]) -> None:
    sample(NoCacheConfig())
    rows = {row for _, row in stores[0]._chunks}
    assert rows == {40 * chunk + 160 * branch for chunk in range(3) for branch in range(2)}  # all but the last chunk


@pytest.mark.parametrize("kv", ["int8", KVStorage.int8])
def test_enable_cache_takes_it_by_name(kv: Any, stores: list[Any]) -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, "exact", kv=kv, split_guidance=True):
        generate(pipeline, num_inference_steps=4, ar_step=1)
    assert {key._values.dtype for key, _ in stores[0]._chunks.values()} == {torch.int8}


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(MotionCacheError, match="kv: 'int4' is not allowed; allowed: model, int8, host"):
        motioncache.enable_cache(make_pipeline(), "exact", kv="int4")
