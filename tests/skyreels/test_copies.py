"""A copy or a pickle of a cached pipeline has no cache, is right, and can have one of its own."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline, SkyReelsV2Transformer3DModel

import motioncache
from motioncache import MotionCacheConfig, MotionCacheError
from motioncache.api import get_hook

from .conftest import generate, make_pipeline
from .test_hooks import model_offload

Make = Callable[..., MotionCacheConfig]


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def saved(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def hooked(pipeline: Any) -> set[str]:
    """What is set on instances that only a cache sets."""
    names = {*vars(pipeline)} & {"prepare_latents", "generate_timestep_matrix"}
    return names | ({*vars(pipeline.transformer)} & {"cache_context"})


@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickled, saved])
def test_a_copy_is_a_clean_pipeline(make_copy: Callable[[Any], Any], config: Make) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    motioncache.enable_cache(pipeline, config())
    cached = generate(pipeline)
    other = make_copy(pipeline)
    assert type(other) is SkyReelsV2DiffusionForcingPipeline
    with pytest.raises(MotionCacheError, match="the cache is not on"):
        motioncache.disable_cache(other)
    assert torch.equal(generate(other), vanilla)
    motioncache.enable_cache(other, config())
    assert torch.equal(generate(other), cached)
    assert get_hook(other) is not get_hook(pipeline)
    motioncache.disable_cache(pipeline)
    assert torch.equal(generate(pipeline), vanilla)
    assert torch.equal(generate(other), cached)
    motioncache.disable_cache(other)
    assert torch.equal(generate(other), vanilla)
    assert hooked(other) <= {"cache_context"}  # a copy of a method may stay, bound to the copy


def test_a_shallow_copy_shares_the_transformer_and_passes_through(config: Make) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    motioncache.enable_cache(pipeline, config())
    cached = generate(pipeline)
    other = copy.copy(pipeline)
    assert type(other) is SkyReelsV2DiffusionForcingPipeline
    assert torch.equal(generate(other), vanilla)
    with pytest.raises(MotionCacheError, match="cache of another pipeline that shares it"):
        motioncache.enable_cache(other, config())
    with pytest.raises(MotionCacheError, match="the cache is not on"):
        motioncache.summary(other)
    assert torch.equal(generate(pipeline), cached)
    motioncache.disable_cache(pipeline)
    motioncache.enable_cache(other, config())
    assert torch.equal(generate(other), cached)
    assert torch.equal(generate(pipeline), vanilla)


def test_a_copy_of_an_offloaded_pipeline_is_clean(config: Make) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    model_offload(pipeline)
    motioncache.enable_cache(pipeline, config())
    cached = generate(pipeline)
    other = copy.deepcopy(pipeline)
    assert torch.equal(generate(pipeline), cached)
    assert torch.equal(generate(other), vanilla)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickled, saved])
def test_the_transformer_alone_is_copied_clean(make_copy: Callable[[Any], Any], config: Make) -> None:
    pipeline, other = make_pipeline(), make_pipeline()
    vanilla = generate(pipeline)
    motioncache.enable_cache(pipeline, config())
    cached = generate(pipeline)
    transformer = make_copy(pipeline.transformer)
    assert type(transformer) is SkyReelsV2Transformer3DModel
    other.transformer = transformer
    assert torch.equal(generate(other), vanilla)
    motioncache.enable_cache(other, config())
    assert torch.equal(generate(other), cached)


def test_a_copy_that_a_callback_makes_is_clean(config: Make) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    motioncache.enable_cache(pipeline, config())
    cached = generate(pipeline)
    copies: list[Any] = []

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 7:
            copies.append(copy.deepcopy(pipe))
        return {}

    assert torch.equal(generate(pipeline, callback_on_step_end=callback), cached)
    assert torch.equal(generate(copies[0]), vanilla)


def test_what_the_user_has_set_stays_in_a_copy(config: Make) -> None:
    pipeline = make_pipeline()
    pipeline.note = "mine"
    motioncache.enable_cache(pipeline, config())
    assert copy.deepcopy(pipeline).note == "mine"


def test_pipelines_that_share_a_transformer_are_cached_one_after_another(config: Make) -> None:
    first = make_pipeline()
    vanilla = generate(first)
    second = make_pipeline()
    second.register_modules(transformer=first.transformer)
    for one, other in ((first, second), (second, first)):
        motioncache.enable_cache(one, config())
        with pytest.raises(MotionCacheError, match="cache of another pipeline that shares it"):
            motioncache.enable_cache(other, config())
        assert torch.equal(generate(other), vanilla)
        motioncache.disable_cache(one)
        assert torch.equal(generate(one), vanilla)
