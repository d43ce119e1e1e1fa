"""The cache's state belongs to one call of its own pipeline: it lives to any exit, and others pass through."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline
from diffusers.callbacks import PipelineCallback

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError
from motioncache.api import get_hook
from motioncache.config import PolicyConfig

from .conftest import embeddings, generate, make_pipeline

Make = Callable[..., MotionCacheConfig]


@pytest.fixture(params=["motioncache", "forecast"])
def policy(request: pytest.FixtureRequest, config: Make, measured: str) -> PolicyConfig:
    return ForecastConfig(target_speedup=3.0, calibration=measured) if request.param == "forecast" else config()


def sharing(pipeline: Any) -> SkyReelsV2DiffusionForcingPipeline:
    """Another pipeline on the same transformer."""
    other = make_pipeline()
    other.register_modules(transformer=pipeline.transformer)
    return other


def at_step(wanted: int, action: Callable[[Any], object]) -> Callable[..., dict[str, Any]]:
    """A callback that does something after one step."""

    def callback(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == wanted:
            action(pipeline)
        return tensors

    return callback


def other_video(pipeline: Any) -> torch.Tensor:
    return generate(pipeline, seed=5, **embeddings(21))


Shared = tuple[Any, Any, torch.Tensor]


@pytest.fixture
def shared(policy: PolicyConfig) -> Shared:
    """A cached pipeline, another one on its transformer, and what that one samples."""
    pipeline = make_pipeline()
    other = sharing(pipeline)
    expected = other_video(other)
    motioncache.enable_cache(pipeline, policy)
    return pipeline, other, expected


def test_nothing_is_held_while_the_video_is_decoded(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy)
    decode, idle = pipeline.vae.decode, []
    pipeline.vae.decode = lambda *args, **kwargs: (
        idle.append(get_hook(pipeline).engine.is_idle),
        decode(*args, **kwargs),
    )[1]
    generate(pipeline, output_type="np")
    assert idle == [True]


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt])
def test_an_exception_in_a_callback_frees_everything_at_once(shared: Shared, kind: type[BaseException]) -> None:
    pipeline, other, expected = shared

    def fail(pipeline: Any) -> None:
        raise kind("mine")

    with pytest.raises(kind):
        generate(pipeline, callback_on_step_end=at_step(7, fail))
    assert get_hook(pipeline).engine.is_idle
    assert torch.equal(other_video(other), expected)


def test_an_interrupt_frees_everything_and_other_pipelines_are_right(shared: Shared) -> None:
    pipeline, other, expected = shared
    cached = generate(pipeline)
    generate(pipeline, callback_on_step_end=at_step(7, lambda pipe: setattr(pipe, "_interrupt", True)))
    assert get_hook(pipeline).engine.is_idle
    assert torch.equal(other_video(other), expected)
    assert torch.equal(generate(pipeline), cached)


def test_another_pipeline_passes_through_from_inside_a_callback(shared: Shared) -> None:
    pipeline, other, expected = shared
    cached = generate(pipeline)
    made: list[torch.Tensor] = []
    again = generate(pipeline, callback_on_step_end=at_step(7, lambda _: made.append(other_video(other))))
    assert torch.equal(made[0], expected)
    assert torch.equal(again, cached)


def test_another_pipeline_passes_through_in_another_thread(shared: Shared) -> None:
    pipeline, other, expected = shared
    cached = generate(pipeline)
    made: list[torch.Tensor] = []

    def in_thread(_: Any) -> None:
        thread = threading.Thread(target=lambda: made.append(other_video(other)))
        thread.start()
        thread.join()

    assert torch.equal(generate(pipeline, callback_on_step_end=at_step(7, in_thread)), cached)
    assert torch.equal(made[0], expected)


@pytest.mark.parametrize("threaded", [False, True])
def test_a_second_call_of_the_same_pipeline_is_refused(config: Make, threaded: bool) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config())
    cached = generate(pipeline)
    said: list[str] = []

    def second() -> None:
        with pytest.raises(MotionCacheError) as error:
            pipeline(prompt=None, **embeddings())
        said.append(str(error.value))

    def call(_: Any) -> None:
        if not threaded:
            return second()
        thread = threading.Thread(target=second)
        thread.start()
        return thread.join()

    assert torch.equal(generate(pipeline, callback_on_step_end=at_step(7, call)), cached)
    assert said[0].startswith("this pipeline is sampling a video already")


class Latents(PipelineCallback):
    """A callback of diffusers' own kind, which says what it wants to see."""

    seen = 0

    @property
    def tensor_inputs(self) -> list[str]:
        return ["latents"]

    def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.seen += tensors["latents"].ndim == 5
        return tensors


def test_callbacks_of_diffusers_kind_get_their_tensors(config: Make) -> None:
    pipeline, callback = make_pipeline(), Latents(cutoff_step_ratio=1.0)
    with motioncache.cached(pipeline, config()):
        generate(pipeline, callback_on_step_end=callback)
    assert callback.seen == 19


def test_a_hooked_pipeline_is_still_of_its_class() -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, "exact"):
        assert isinstance(pipeline, SkyReelsV2DiffusionForcingPipeline)
        assert type(pipeline).__name__ == "SkyReelsV2DiffusionForcingPipeline"
    assert type(pipeline) is SkyReelsV2DiffusionForcingPipeline


def test_prompt_embeddings_that_change_in_place_are_noticed(policy: PolicyConfig) -> None:
    pipeline, texts = make_pipeline(), embeddings()
    motioncache.enable_cache(pipeline, policy)
    change = at_step(7, lambda _: texts["prompt_embeds"].add_(1.0))
    with pytest.raises(MotionCacheError, match="the prompt embeddings of the cond branch changed"):
        generate(pipeline, **texts, callback_on_step_end=change)
    fresh = generate(pipeline, **texts)  # another call takes them as they are now
    assert torch.equal(fresh, generate(pipeline, **{name: text.clone() for name, text in texts.items()}))


def test_embeddings_of_inference_mode_are_served(config: Make) -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, config()):
        expected = generate(pipeline)
        with torch.inference_mode():
            assert torch.equal(generate(pipeline), expected)
