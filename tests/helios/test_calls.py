"""What belongs to one chunk stays with it, and what a callback changes is noticed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError, NoCacheConfig, TeaCacheConfig
from motioncache.api import get_hook
from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError
from motioncache.foreign import PackedHook
from motioncache_helios.adapter import HeliosAdapter

from .conftest import COEFFICIENTS, embeddings, generate, make_pipeline

Make = Callable[..., MotionCacheConfig]
Callback = Callable[..., dict[str, Any]]


@pytest.fixture(params=["motioncache", "flowcache", "teacache", "forecast"])
def policy(request: pytest.FixtureRequest, config: Make, measured: str) -> PolicyConfig:
    return {
        "motioncache": config(),
        "flowcache": config(chunk_phase_updates=None),
        "teacache": TeaCacheConfig(warmup=1, coefficients=COEFFICIENTS, threshold=0.4),
        "forecast": ForecastConfig(target_speedup=3.0, calibration=measured, allow_foreign_calibration=True),
    }[request.param]


def test_nothing_of_a_chunk_is_left_for_the_next(policy: PolicyConfig) -> None:
    """The first step of every chunk is computed in full, and the steps after it are decided as in the first chunk."""
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, policy, adapter=HeliosAdapter()):
        generate(pipeline)
        records = motioncache.last_trace(pipeline).records
    first = [record for record in records if record.step == 0]
    assert len(first) == 2 * 2  # chunks, CFG branches
    assert all(record.computed == record.tokens for record in first)
    assert any(record.computed < record.tokens for record in records)
    whole = [
        [(r.step, r.computed) for r in records if r.window == chunk and r.computed in (0, r.tokens)] for chunk in (0, 1)
    ]
    if not isinstance(policy, MotionCacheConfig) or policy.chunk_phase_updates is None:
        assert whole[0] == whole[1]


def test_a_chunk_begins_where_the_pipeline_says_so_after_an_interrupted_one(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy, adapter=HeliosAdapter())
    expected = generate(pipeline)

    def interrupt(pipe: Any, step: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == 3  # the rest of this chunk, and all others, make no model call
        return tensors

    generate(pipeline, callback_on_step_end=interrupt)
    assert get_hook(pipeline).engine.is_idle
    assert torch.equal(generate(pipeline), expected)


def test_motion_is_seen_against_the_last_frame_of_the_history(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline()
    seen: list[tuple[int, ...]] = []
    with motioncache.cached(pipeline, config(), adapter=HeliosAdapter()):
        engine = get_hook(pipeline).engine
        see = engine.see_before
        engine.see_before = lambda branch, hidden: (
            seen.append((len(engine.trace.windows), hidden.shape[1])),
            see(branch, hidden),
        )[1]
        ours = generate(pipeline)
        assert {window for window, _ in seen} == {2}  # the first chunk of a text-to-video call follows nothing
        engine.see_before = lambda branch, hidden: None
        assert not torch.equal(generate(pipeline), ours)
        seen.clear()
        engine.see_before = lambda branch, hidden: (
            seen.append((len(engine.trace.windows), hidden.shape[1])),
            see(branch, hidden),
        )[1]
        generate(pipeline, image=torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(3)))
        assert {window for window, _ in seen} == {1, 2}


def changing(step: int, change: Callable[[Any, dict[str, Any]], None]) -> Callback:
    """A callback that changes something once, after a step of the first chunk."""
    done: list[int] = []

    def callback(pipe: Any, at: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if at == step and not done:
            done.append(at)
            change(pipe, tensors)
        return tensors

    return callback


def other_prompt(pipe: Any, tensors: dict[str, Any]) -> None:
    tensors["prompt_embeds"] = embeddings(seed=8)["prompt_embeds"]


def same_prompt_in_place(pipe: Any, tensors: dict[str, Any]) -> None:
    tensors["prompt_embeds"].add_(0.5)


def other_weights(pipe: Any, tensors: dict[str, Any]) -> None:
    with torch.no_grad():
        pipe.transformer.patch_short.weight.mul_(1.5)
        pipe.transformer.blocks[1].attn2.to_k.weight.mul_(1.5)


def no_guidance(pipe: Any, tensors: dict[str, Any]) -> None:
    pipe._guidance_scale = 1.0


def guidance_again(pipe: Any, at: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    pipe._guidance_scale = 1.0 if at == 2 else 5.0
    return tensors


CHANGES = {"prompt": other_prompt, "prompt in place": same_prompt_in_place, "weights": other_weights}
CALL = {"num_inference_steps": 6, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}


@pytest.mark.parametrize("name", [*CHANGES, "guidance"])
def test_exact_follows_what_a_callback_changes(name: str) -> None:
    def callback() -> Callback:
        return changing(2, CHANGES[name]) if name in CHANGES else guidance_again

    uncached = generate(make_pipeline(), callback_on_step_end=callback(), **CALL)
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, NoCacheConfig(), adapter=HeliosAdapter()):
        ours = generate(pipeline, callback_on_step_end=callback(), **CALL)
    assert (ours - uncached).abs().max() < 2e-6


@pytest.mark.parametrize("name", [*CHANGES, "guidance"])
def test_a_policy_that_reuses_refuses_what_a_callback_changes(name: str, policy: PolicyConfig) -> None:
    callback = changing(2, CHANGES[name]) if name in CHANGES else guidance_again
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy, adapter=HeliosAdapter())
    with pytest.raises(MotionCacheError, match="while a chunk was being sampled"):
        generate(pipeline, callback_on_step_end=callback, **CALL)


def test_guidance_may_end_for_good(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, policy, adapter=HeliosAdapter()):
        generate(pipeline, callback_on_step_end=changing(5, no_guidance))
        records = motioncache.last_trace(pipeline).records
    assert {record.branch for record in records if record.window == 1} == {"cond"}


def test_a_forward_outside_of_a_call_is_the_transformers_own(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    inputs = (torch.randn(1, 4, 3, 4, 8), torch.tensor([500.0]), torch.randn(1, 8, 16), torch.arange(3)[None])
    with torch.no_grad():
        expected = pipeline.transformer(*inputs, return_dict=False)[0]
        motioncache.enable_cache(pipeline, policy, adapter=HeliosAdapter())
        assert torch.equal(pipeline.transformer(*inputs, return_dict=False)[0], expected)


@pytest.mark.parametrize(
    ("hang", "says"),
    [
        (lambda t: t.blocks[0].register_forward_hook(lambda *_: None), "forward hook"),
        (lambda t: setattr(t.blocks[1], "forward", functional.gelu), "replaced"),
        (lambda t: setattr(t, "_cache_config", object()), "another cache"),
    ],
    ids=["hook", "forward", "cache"],
)
def test_what_sits_where_the_cache_works_is_refused(hang: Callable[[Any], Any], says: str) -> None:
    pipeline = make_pipeline()
    hang(pipeline.transformer)
    with pytest.raises(MotionCacheError, match=says):
        motioncache.enable_cache(pipeline, NoCacheConfig(), adapter=HeliosAdapter())


def test_a_hook_that_knows_the_rows_of_the_cache_sees_them() -> None:
    pipeline, rows = make_pipeline(), []
    pipeline.transformer.blocks[0].register_forward_pre_hook(
        PackedHook(lambda _, inputs: rows.append(inputs[1].history))
    )
    with motioncache.cached(pipeline, NoCacheConfig(), adapter=HeliosAdapter()):
        generate(pipeline, num_frames=9, num_inference_steps=2)
    assert rows == [rows[0]] * 4
    assert rows[0] == 2 * 8 + 1 * 2 + 1 * 1  # tokens of the short, mid and long history, padding included


def test_several_videos_at_once_are_refused_where_they_would_depend_on_each_other(config: Make) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config(), adapter=HeliosAdapter())
    with pytest.raises(MotionCacheError, match="2 videos at once"):
        generate(pipeline, **embeddings(batch=2))


@pytest.mark.parametrize("option", [{"kv": "int8"}, {"kv": "host"}, {"split_guidance": True}], ids=str)
def test_settings_of_another_model_are_refused(option: dict[str, Any], policy: PolicyConfig) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        motioncache.enable_cache(make_pipeline(), policy, adapter=HeliosAdapter(), **option)
