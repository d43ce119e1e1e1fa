"""Prompts of VBench sampling are encoded once, ahead of all their videos, which are the same bits as without that."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache_eval.jobs import LoadedJob, find_model
from motioncache_eval.vbench.deliver import Delivery
from motioncache_eval.vbench.plan import Plan, make_plan
from motioncache_eval.vbench.sampler import make_or_explain

from .test_vbench import SMALL, full_info


@pytest.fixture(params=["skyreels-v2", "magi-1"])
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> Plan:
    """Two presets, two prompts, two videos of each."""
    model = find_model(request.param)
    texts = [*SMALL[request.param], "presets=[vanilla,slow]", "samples_per_prompt=2", f"output={tmp_path / 'out'}"]
    texts.append("dimensions=[subject_consistency]")
    plan = make_plan(model, model.adapter().presets(), [*texts, f"full_info={full_info(tmp_path)}"])
    for preset in plan.policies:
        plan.folder(preset).prepare(plan.describe(preset), plan.videos)
    return plan


def encoder_of(pipeline: Any) -> torch.nn.Module:
    found: Any = pipeline
    for name in ("text_encoder", "_encoder"):
        found = getattr(found, name, found)
    return found


def count_calls(encoder: torch.nn.Module) -> list[str]:
    calls: list[str] = []
    encoder.register_forward_hook(lambda module, _, __: calls.append(str(next(module.parameters()).device)))
    return calls


def load(plan: Plan) -> tuple[LoadedJob, list[str]]:
    loaded = plan.model.load(plan.job)
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded, count_calls(encoder_of(loaded.pipeline))


def test_each_prompt_is_encoded_once_for_all_presets_and_indices(plan: Plan) -> None:
    loaded, calls = load(plan)
    assert len(plan.items()) == 8
    for item in plan.items():
        assert isinstance(make_or_explain(plan, loaded, item), Delivery)
    negative = hasattr(plan.job, "negative_prompt")  # one for all prompts
    assert len(calls) == 2 + negative


def test_videos_are_the_same_bits_as_when_each_call_encodes_its_prompt(plan: Plan) -> None:
    plain, calls = load(plan)
    once, once_calls = load(plan)
    job = replace(plain.job, prompt="a red circle. resting", seed=5)
    once.encode(job)
    before = len(once_calls)
    for preset, policy in plan.policies.items():
        mine, theirs = (loaded.make_video(job, policy)[0].latents for loaded in (once, plain))
        assert torch.equal(mine, theirs), preset
    assert len(once_calls) == before  # the calls found all they need
    assert len(once_calls) < len(calls)


def test_many_prompts_keep_no_more_than_the_last_few(plan: Plan) -> None:
    loaded, calls = load(plan)
    negative = hasattr(plan.job, "negative_prompt")
    prompts = [f"a red circle {i}" for i in range(40)]
    for prompt in [*prompts, *prompts[-3:]]:
        loaded.encode(replace(loaded.job, prompt=prompt))
    assert len(calls) == 40 + negative
    loaded.encode(replace(loaded.job, prompt=prompts[0]))
    assert len(calls) == 41 + negative
