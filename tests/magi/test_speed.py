"""How often a model call of MAGI-1 waits for its device, counted on meta tensors."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from motioncache_eval.speed import ModelCall, SpeedSettings
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.speed import count_steps
from motioncache_magi.weightless import create_transformer

from .conftest import small_config

TOKEN, CHUNK = "token phase", "chunk phase"


def config_of(kind: str, **runtime: int) -> MagiConfig:
    """Steps enough for every phase of the presets, unless `runtime` says otherwise."""
    config = small_config(kind)
    return replace(config, runtime=replace(config.runtime, **{"num_frames": 144, "num_steps": 64, **runtime}))


@cache
def count(kind: str, preset: str, **changes: Any) -> list[ModelCall]:
    config = config_of(kind)
    return count_steps(create_transformer(config), config, SpeedSettings(preset=preset, **changes))


@pytest.mark.parametrize(
    ("kind", "preset"), [("base", "exact"), ("base", "slow"), ("distill", "forecast"), ("distill", "teacache-slow")]
)
def test_no_call_waits_but_once_where_latents_decide(kind: str, preset: str) -> None:
    """The distances of MAGI-1 are those of latents, which are on the device: one transfer for all chunks of a call."""
    calls = count(kind, preset)
    assert all(call.counts.copies == 0 for call in calls)
    deciding = [call for call in calls if {TOKEN, CHUNK} & {*call.phases}]
    others = [call for call in calls if not {TOKEN, CHUNK} & {*call.phases}]
    assert {call.counts.waits for call in others} == {0}
    assert {call.counts.waits for call in deciding} == ({1} if preset in ("slow", "teacache-slow") else set())
    assert preset != "slow" or any(TOKEN in call.phases for call in deciding)


def test_tokens_that_are_not_due_save_flops_and_no_launches() -> None:
    half, whole = (count("distill", "slow", due=due) for due in (0.5, 1.0))
    by_token = [(a.counts, b.counts) for a, b in zip(half, whole, strict=True) if TOKEN in a.phases]
    assert by_token
    assert all(a.flops < 0.9 * b.flops for a, b in by_token)
    assert all(abs(a.launches - b.launches) < 30 for a, b in by_token)
    assert {b.computed for b in whole} == {1.0}
