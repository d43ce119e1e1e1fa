"""What a callback changes while a video is sampled: `exact` follows, and what reuses refuses or follows."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError, TeaCacheConfig
from motioncache.api import get_hook
from motioncache.config import PolicyConfig
from motioncache.record import Phase

from .conftest import COEFFICIENTS, embeddings, generate, make_pipeline

ROUNDING = 2e-5
TWO_WINDOWS = {"num_frames": 137, "overlap_history": 17}

Make = Callable[..., MotionCacheConfig]
Action = Callable[[Any, dict[str, Any]], dict[str, Any] | None]


@pytest.fixture(params=["motioncache", "teacache", "forecast"])
def reusing(request: pytest.FixtureRequest, config: Make, measured: str) -> PolicyConfig:
    if request.param == "teacache":
        return TeaCacheConfig(warmup=1, threshold=0.25, coefficients=COEFFICIENTS)
    return ForecastConfig(target_speedup=3.0, calibration=measured) if request.param == "forecast" else config()


def during(actions: dict[int, Action]) -> dict[str, Any]:
    """Arguments of a call in which these callbacks run, each after so many calls of the callback."""
    calls = iter(range(1000))

    def callback(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        action = actions.get(next(calls))
        return (action(pipeline, tensors) if action else None) or {}

    names = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    return {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": names}


def guide(scale: float) -> Action:
    return lambda pipeline, _: setattr(pipeline, "_guidance_scale", scale)


def lora(pipeline: Any) -> None:
    torch.manual_seed(5)
    pipeline.transformer.add_adapter(
        LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    )


def scale_lora(pipeline: Any, _: Any) -> None:
    pipeline.transformer.set_adapters(["default"], [0.2])


def turn_lora_off(pipeline: Any, _: Any) -> None:
    pipeline.transformer.disable_adapters()


def change_weights(pipeline: Any, _: Any) -> None:
    with torch.no_grad():
        pipeline.transformer.blocks[1].attn1.to_v.base_layer.weight.mul_(1.5)


def change_prompt(_: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    return {"prompt_embeds": tensors["prompt_embeds"] * 1.5}


def change_negative_prompt(_: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    return {"negative_prompt_embeds": tensors["negative_prompt_embeds"] * 1.5}


def change_both_in_place(_: Any, tensors: dict[str, Any]) -> None:
    tensors["prompt_embeds"].mul_(1.5)
    tensors["negative_prompt_embeds"].mul_(0.5)


def change_latents(_: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    latents = tensors["latents"].clone()
    latents[:, :, :5] += 0.5  # the first chunk
    return {"latents": latents}


def change_latents_in_place(_: Any, tensors: dict[str, Any]) -> None:
    tensors["latents"][:, :, :5] += 0.5


SWITCHES: dict[str, dict[int, Action]] = {
    "off": {4: guide(1.0)},
    "off at once": {0: guide(1.0)},
    "off for the second window": {18: guide(1.0)},
    "off and on again": {4: guide(1.0), 14: guide(6.0)},
    "on again in the second window": {4: guide(1.0), 24: guide(6.0)},
    "on again between the windows": {4: guide(1.0), 18: guide(6.0)},
}

CHANGES: dict[str, Action] = {
    "prompt": change_prompt,
    "negative prompt": change_negative_prompt,
    "both prompts in place": change_both_in_place,
    "scale of a LoRA": scale_lora,
    "LoRA turned off": turn_lora_off,
    "weights": change_weights,
}


def both(call: Callable[[], dict[str, Any]], policy: Any = "exact", prepare: Any = lora) -> tuple[Any, Any]:
    """The video without the cache, and with it; each from a fresh pipeline."""
    made = []
    for preset in (None, policy):
        pipeline = make_pipeline()
        prepare(pipeline)
        if preset is not None:
            motioncache.enable_cache(pipeline, preset)
        made.append(generate(pipeline, **call()))
    return made[0], made[1]


@pytest.mark.parametrize("name", SWITCHES)
def test_exact_follows_guidance_that_is_switched(name: str) -> None:
    vanilla, exact = both(lambda: {**TWO_WINDOWS, **during(SWITCHES[name])})
    assert (vanilla - exact).abs().max() < ROUNDING
    guided = generate(make_pipeline(), **TWO_WINDOWS)
    assert (vanilla - guided).abs().max() > 1e-2


def test_guidance_that_is_off_at_first_may_be_switched_on() -> None:
    texts = embeddings()
    pipeline = make_pipeline()

    def begin_unguided(call: dict[str, Any]) -> torch.Tensor:
        # The pipeline drops the negative prompt of a call without guidance: it is switched off where a window begins.
        original = pipeline.prepare_latents

        def prepare(*args: Any, **kwargs: Any) -> Any:
            pipeline._guidance_scale = 1.0
            return original(*args, **kwargs)

        pipeline.prepare_latents = prepare
        try:
            return generate(pipeline, **texts, **call)
        finally:
            del pipeline.prepare_latents

    vanilla = begin_unguided(during({7: guide(6.0)}))
    motioncache.enable_cache(pipeline, "exact")
    hooked = vars(pipeline)["prepare_latents"]
    pipeline.prepare_latents = lambda *a, **k: (setattr(pipeline, "_guidance_scale", 1.0), hooked(*a, **k))[1]
    assert (generate(pipeline, **texts, **during({7: guide(6.0)})) - vanilla).abs().max() < ROUNDING


def test_no_branch_is_computed_that_is_not_asked_for() -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, "exact") as statistics:
        generate(pipeline, **during({4: guide(1.0)}))
        records = motioncache.last_trace(pipeline).records
        assert {r.iteration for r in records if r.branch == "uncond"} == set(range(5))
        assert {r.iteration for r in records if r.branch == "cond"} == set(range(19))
    assert statistics.summary().vanilla_flops == pytest.approx(24 * _call_flops(), rel=1e-6)


def _call_flops() -> float:
    """FLOPs of one model call without a cache."""
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    generate(pipeline)
    return motioncache.summary(pipeline).vanilla_flops / (2 * 19)


def test_what_reuses_follows_guidance_that_is_switched_off(reusing: PolicyConfig) -> None:
    vanilla, cached = both(lambda: during({9: guide(1.0)}), reusing)
    _, guided = both(dict, reusing)
    assert torch.isfinite(cached).all()
    assert (cached - vanilla).abs().mean() < (guided - vanilla).abs().mean()


def test_what_reuses_refuses_guidance_that_comes_back(reusing: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, reusing)
    expected = generate(pipeline)
    with pytest.raises(MotionCacheError, match="guidance was off, and the uncond branch not computed"):
        generate(pipeline, **during({4: guide(1.0), 9: guide(6.0)}))
    assert torch.equal(generate(pipeline), expected)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("when", [7, 13])
def test_exact_follows_what_a_callback_changes(name: str, when: int) -> None:
    vanilla, exact = both(lambda: during({when: CHANGES[name]}) | embeddings())
    unchanged, _ = both(dict)
    assert (vanilla - exact).abs().max() < ROUNDING
    assert (vanilla - unchanged).abs().max() > 1e-3


@pytest.mark.parametrize("name", CHANGES)
def test_what_reuses_refuses_what_a_callback_changes(name: str, reusing: PolicyConfig) -> None:
    pipeline = make_pipeline()
    lora(pipeline)
    motioncache.enable_cache(pipeline, reusing)
    with pytest.raises(MotionCacheError, match="changed while a window was being sampled"):
        generate(pipeline, **during({7: CHANGES[name]}), **embeddings())
    assert get_hook(pipeline).engine.is_idle


def test_the_scale_of_a_call_may_change_under_exact() -> None:
    options = {"scale": 1.0}

    def call() -> dict[str, Any]:
        options["scale"] = 1.0
        return {"attention_kwargs": options, **during({9: lambda *_: options.update(scale=0.2)})}

    vanilla, exact = both(call)
    assert (vanilla - exact).abs().max() < ROUNDING


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("change", [change_latents, change_latents_in_place])
def test_latents_of_clean_chunks_may_change(change: Action, inference: bool) -> None:
    with torch.inference_mode(inference):
        vanilla, exact = both(lambda: during({14: change}))
        unchanged, _ = both(lambda: during({}))
    assert (vanilla - exact).abs().max() < ROUNDING
    assert (vanilla - unchanged)[:, :, 10:].abs().max() > 1e-3  # later chunks see the change


def test_latents_may_change_for_what_reuses(reusing: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, reusing)
    generate(pipeline, **during({14: change_latents}))
    passes = [r for r in motioncache.last_trace(pipeline).records if r.phase is Phase.finished and r.chunk == 0]
    assert [(r.branch, r.iteration) for r in passes] == [("cond", 10), ("uncond", 10), ("cond", 15), ("uncond", 15)]


def test_a_callback_that_changes_nothing_costs_nothing() -> None:
    pipeline = make_pipeline()
    lora(pipeline)
    motioncache.enable_cache(pipeline, "exact")
    generate(pipeline)
    alone = motioncache.summary(pipeline).flops
    generate(pipeline, **during(dict.fromkeys(range(19), lambda _, tensors: tensors)))
    assert motioncache.summary(pipeline).flops == alone


def test_the_cache_may_be_turned_off_in_a_callback(reusing: PolicyConfig) -> None:
    vanilla, exact = both(lambda: during({7: lambda pipe, _: _turn_off(pipe)}))
    assert torch.allclose(vanilla, exact, atol=ROUNDING)
    pipeline = make_pipeline()
    fresh = generate(pipeline)
    motioncache.enable_cache(pipeline, reusing)
    generate(pipeline, **during({7: lambda pipe, _: motioncache.disable_cache(pipe)}))
    assert torch.equal(generate(pipeline), fresh)


def _turn_off(pipeline: Any) -> None:
    if "_motioncache" in vars(pipeline):
        motioncache.disable_cache(pipeline)


def test_a_cache_that_is_turned_on_in_a_callback_is_refused() -> None:
    pipeline = make_pipeline()
    with pytest.raises(MotionCacheError, match="while this pipeline was sampling a video"):
        generate(pipeline, **during({7: lambda pipe, _: motioncache.enable_cache(pipe, "exact")}))
    motioncache.enable_cache(pipeline, "exact")
