"""How often a model call of SkyReels-V2 waits for its device, counted on meta tensors."""

from typing import Any

import pytest
import torch

from motioncache_eval.speed import ModelCall, SpeedSettings, count_table, kinds_of
from motioncache_skyreels.measure import create_transformer
from motioncache_skyreels.speed import count_window

from .test_measure import TINY


def count(preset: str, **changes: Any) -> list[ModelCall]:
    settings = SpeedSettings(height=64, width=96, num_frames=57, preset=preset, **changes)
    return count_window(create_transformer({**TINY, "inject_sample_info": True}, torch.float32), settings)


@pytest.mark.parametrize("preset", ["exact", "forecast", "slow", "fast"])
def test_no_call_waits_but_once_where_tokens_are_chosen(preset: str) -> None:
    calls = count(preset)[2:]  # the first call of either CFG branch opens the window
    assert all(call.counts.copies == 0 for call in calls)
    by_token = [call for call in calls if "token phase" in call.phases]
    others = [call for call in calls if "token phase" not in call.phases]
    assert {call.counts.waits for call in others} == {0}
    assert {call.counts.waits for call in by_token} == ({1} if preset in ("slow", "fast") else set())


def test_tokens_that_are_not_due_save_flops_and_no_launches() -> None:
    half, all_of_it = (max(kinds_of(count("slow", due=due)), key=lambda c: c.counts.waits) for due in (0.5, 1.0))
    assert half.computed == pytest.approx(0.5, abs=0.02)
    assert all_of_it.computed == 1.0
    assert half.counts.flops < 0.7 * all_of_it.counts.flops
    assert abs(half.counts.launches - all_of_it.counts.launches) < 60
    assert len(count_table([half, all_of_it]).markdown()) == 4
