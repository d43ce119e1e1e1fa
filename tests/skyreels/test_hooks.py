"""The cache beside everything else that people hang on a pipeline, enabled before it and after it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from diffusers.models.attention_dispatch import attention_backend
from peft import LoraConfig

import motioncache
from motioncache import MotionCacheConfig

from .conftest import generate, make_pipeline

Make = Callable[..., MotionCacheConfig]


def group_offload(pipeline: Any, kind: str = "block_level") -> None:
    options = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    pipeline.transformer.enable_group_offload(onload_device=torch.device("cpu"), offload_type=kind, **options)


def leaf_offload(pipeline: Any) -> None:
    group_offload(pipeline, "leaf_level")


def model_offload(pipeline: Any) -> None:
    # What enable_model_cpu_offload does for each part; that method itself insists on a GPU.
    cpu_offload_with_hook(pipeline.transformer, torch.device("cpu"))


OFFLOADS = [group_offload, leaf_offload, model_offload]


def count_onloads(pipeline: Any) -> list[str]:
    """Names of the hooks that fire on the transformer itself: the silent ones are those that were patched away."""
    fired: list[str] = []
    registry = getattr(pipeline.transformer, "_diffusers_hook", None)
    for reference in registry._fn_refs if registry else []:
        original = reference.pre_forward
        reference.pre_forward = lambda *a, o=original, **k: fired.append("diffusers") or o(*a, **k)
    hook = getattr(pipeline.transformer, "_hf_hook", None)
    if hook is not None:
        original = hook.pre_forward
        hook.pre_forward = lambda *a, o=original, **k: fired.append("accelerate") or o(*a, **k)
    return fired


@pytest.mark.parametrize("offload", OFFLOADS)
@pytest.mark.parametrize("cache_first", [True, False])
def test_offloading_works_in_either_order(offload: Callable[[Any], None], cache_first: bool, config: Make) -> None:
    plain = make_pipeline()
    with motioncache.cached(plain, config()):
        expected = generate(plain)
    vanilla = generate(plain)
    pipeline = make_pipeline()
    if cache_first:
        motioncache.enable_cache(pipeline, config())
        offload(pipeline)
    else:
        offload(pipeline)
        motioncache.enable_cache(pipeline, config())
    fired = count_onloads(pipeline)
    assert torch.equal(generate(pipeline), expected)
    assert len(fired) >= 19 * 2  # every model call of both branches
    motioncache.disable_cache(pipeline)
    fired.clear()
    assert torch.equal(generate(pipeline), vanilla)
    assert len(fired) >= 19 * 2  # the offloading is still there


@pytest.mark.parametrize("cache_first", [True, False])
def test_offloading_may_go_away_while_the_cache_is_on(cache_first: bool, config: Make) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    steps = [lambda: motioncache.enable_cache(pipeline, config()), lambda: model_offload(pipeline)]
    for step in steps if cache_first else reversed(steps):
        step()
    expected = generate(pipeline)
    remove_hook_from_module(pipeline.transformer, recurse=True)
    assert torch.equal(generate(pipeline), expected)
    motioncache.disable_cache(pipeline)
    assert torch.equal(generate(pipeline), vanilla)


def add_lora(pipeline: Any) -> None:
    torch.manual_seed(5)
    pipeline.transformer.add_adapter(
        LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    )


def test_a_lora_loaded_before_is_applied_with_its_scale() -> None:
    pipeline = make_pipeline()
    without = generate(pipeline)
    add_lora(pipeline)
    results = {}
    for scale in (1.0, 0.3):
        call = {"attention_kwargs": {"scale": scale}}
        vanilla = generate(pipeline, **call)
        with motioncache.cached(pipeline, "exact"):
            results[scale] = generate(pipeline, **call)
        assert (vanilla - results[scale]).abs().max() < 2e-5
        assert (vanilla - without).abs().max() > 1e-2
    assert (results[1.0] - results[0.3]).abs().max() > 1e-2


def test_fused_projections_are_used() -> None:
    pipeline = make_pipeline()
    pipeline.transformer.fuse_qkv_projections()
    for block in pipeline.transformer.blocks:  # if the separate layers were still read, this would show
        block.attn1.to_q.weight.data.zero_()
        block.attn2.to_k.weight.data.zero_()
    vanilla = generate(pipeline)
    with motioncache.cached(pipeline, "exact"):
        assert (vanilla - generate(pipeline)).abs().max() < 2e-5


def test_the_attention_backend_of_the_user_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from motioncache_skyreels import packed

    seen: list[tuple[Any, bool]] = []
    original = packed.dispatch_attention_fn

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append((kwargs["backend"], kwargs.get("attn_mask") is None))
        return original(*args, **kwargs)

    monkeypatch.setattr(packed, "dispatch_attention_fn", spy)
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    with attention_backend(), motioncache.cached(pipeline, "exact"):  # the backend is the whole process's
        pipeline.transformer.set_attention_backend("_native_math")
        assert (vanilla - generate(pipeline)).abs().max() < 2e-5
    assert {str(backend).rsplit(".", 1)[-1].lower() for backend, _ in seen} == {"_native_math"}
    assert all(unmasked for _, unmasked in seen)


def test_two_pipelines_in_one_process_are_independent(config: Make) -> None:
    first, second = make_pipeline(), make_pipeline()
    vanilla = generate(second)
    motioncache.enable_cache(first, config())
    assert torch.equal(generate(second), vanilla)
    expected = generate(first)
    motioncache.enable_cache(second, "exact")

    def interleave(pipe: Any, step: int, t: Any, kwargs: Any) -> Any:
        if step == 9:
            generate(second)
        return {}

    assert torch.equal(generate(first, callback_on_step_end=interleave), expected)


def test_at_most_one_transfer_from_the_device_per_model_call(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config())
    generate(pipeline)
    waits: list[int] = []
    calls: list[int] = []
    for name in ("cpu", "item", "tolist", "nonzero", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *a, o=original, n=name, **k: (waits.append(n), o(self, *a, **k))[1]
        )
    window = {}

    def before(*_: Any) -> None:
        window["start"] = len(waits)

    def after(*_: Any) -> None:
        # nonzero runs on the mask that is on the host already
        calls.append(sum(name not in ("nonzero",) for name in waits[window["start"] :]))

    pipeline.transformer.register_forward_pre_hook(before)
    pipeline.transformer.register_forward_hook(after)
    generate(pipeline)
    assert len(calls) == 2 * 19
    assert max(calls[2:]) <= 1  # the first call of a window reads the schedule
    assert sum(calls[2:]) > 5
