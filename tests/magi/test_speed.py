"""How often a model call of MAGI-1 waits for its device, counted on meta tensors."""

from dataclasses import replace

import pytest
import torch

from motioncache_eval.speed import ModelCall, SpeedSettings
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.speed import count_video

from .test_measure import shipped


def count(kind: str, preset: str) -> list[ModelCall]:
    config = shipped(kind)
    config = replace(config, runtime=replace(config.runtime, num_frames=48, num_steps=16))
    with torch.device("meta"):
        model = VideoDiT(config.model).set_dtypes().requires_grad_(False)
    return count_video(model, config, SpeedSettings(preset=preset))


@pytest.mark.parametrize("kind", ["base", "distilled"])
@pytest.mark.parametrize("preset", ["exact", "forecast", "slow", "fast"])
def test_no_call_waits_but_once_where_distances_of_latents_decide(kind: str, preset: str) -> None:
    calls = count(kind, preset)
    assert all(call.counts.copies == 0 for call in calls)
    measured = {"chunk", "token"}
    deciding = [call for call in calls if measured & {*call.phases} and preset in ("slow", "fast")]
    others = [call for call in calls if not measured & {*call.phases}]
    assert {call.counts.waits for call in others} == {0}
    assert {call.counts.waits for call in deciding} <= {0, 1}
    assert any(call.counts.waits for call in deciding) == (preset in ("slow", "fast"))
