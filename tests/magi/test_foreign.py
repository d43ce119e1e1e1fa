"""What others hang on a MAGI-1 transformer is refused; a copy of a cached pipeline has no cache."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks import HookRegistry, ModelHook, apply_layerwise_casting
from torch import nn

import motioncache
from motioncache import MotionCacheError
from motioncache.api import get_hook
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.pipeline import MagiPipeline

from .conftest import random_dit
from .test_cache import CACHE, latents
from .test_pipeline import generator, load

LAYER = "videodit_blocks.layers.1"


@pytest.fixture(scope="module")
def loaded(distilled: Path) -> MagiPipeline:
    return load(distilled)


@pytest.fixture
def pipe(loaded: MagiPipeline) -> MagiPipeline:
    """A pipeline whose transformer is its own."""
    return copy.deepcopy(loaded)


class Doubles(ModelHook):
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return output * 2


def replace_forward(transformer: Any) -> None:
    module = transformer.get_submodule(f"{LAYER}.mlp")
    module.forward = lambda x, before=module.forward: before(x) * 2


FOREIGN: dict[str, tuple[Callable[[Any], object], str]] = {
    "hook": (lambda t: t.get_submodule(LAYER).register_forward_hook(lambda *_: None), "has the forward hook"),
    "pre-hook": (
        lambda t: t.x_embedder.register_forward_pre_hook(lambda *_: None),
        "`x_embedder` has the",
    ),
    "forward": (replace_forward, r"mlp` has been replaced by"),
    "diffusers hook": (
        lambda t: HookRegistry.check_if_exists_or_initialize(t.get_submodule(LAYER)).register_hook(Doubles(), "mine"),
        "has a Doubles",
    ),
    "compiled layer": (lambda t: t.get_submodule(LAYER).compile(), "is compiled.*Compile the whole transformer"),
    "compiled part": (lambda t: t.get_submodule(f"{LAYER}.mlp").compile(), "is compiled"),
    "cache-dit": (lambda t: setattr(t, "_is_cached", True), "cache-dit"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_refused_when_the_cache_is_enabled_and_when_it_is_called(pipe: MagiPipeline, name: str) -> None:
    hang, says = FOREIGN[name]
    motioncache.enable_cache(pipe, "exact")
    hang(pipe.transformer)
    with pytest.raises(MotionCacheError, match=says):
        latents(pipe)
    motioncache.disable_cache(pipe)
    with pytest.raises(MotionCacheError, match=says):
        motioncache.enable_cache(pipe, "exact")
    assert "create_sampler" not in vars(pipe)


def test_another_transformer_is_refused(pipe: MagiPipeline) -> None:
    motioncache.enable_cache(pipe, "exact")
    pipe.transformer = random_dit(pipe.config.model, seed=3)
    with pytest.raises(MotionCacheError, match="another transformer than when the cache was enabled"):
        latents(pipe)
    motioncache.disable_cache(pipe)
    pipe.transformer = nn.Linear(2, 2)
    with pytest.raises(MotionCacheError, match="the pipeline's transformer is a Linear"):
        motioncache.enable_cache(pipe, "exact")


@pytest.mark.parametrize("make_copy", [copy.deepcopy, copy.copy, lambda pipe: pickle.loads(pickle.dumps(pipe))])
def test_a_copy_is_a_clean_pipeline(pipe: MagiPipeline, make_copy: Callable[[Any], Any]) -> None:
    vanilla = latents(pipe)
    motioncache.enable_cache(pipe, CACHE)
    cached = latents(pipe)
    other = make_copy(pipe)
    assert torch.equal(latents(other), vanilla)
    with pytest.raises(MotionCacheError, match="the cache is not on"):
        motioncache.disable_cache(other)
    motioncache.enable_cache(other, CACHE)
    assert torch.equal(latents(other), cached)
    assert get_hook(other) is not get_hook(pipe)
    motioncache.disable_cache(pipe)
    assert torch.equal(latents(pipe), vanilla)
    assert torch.equal(latents(other), cached)


def test_a_stream_whose_cache_was_disabled_is_refused_and_others_are_right(pipe: MagiPipeline) -> None:
    vanilla = latents(pipe)
    with motioncache.cached(pipe, CACHE):
        cached = latents(pipe)
        stream = pipe.stream("a red circle", num_frames=72, output_type="latent", generator=generator())
        next(stream)
    with pytest.raises(MotionCacheError, match="the cache was disabled while this video was being sampled"):
        next(stream)
    assert torch.equal(latents(pipe), vanilla)
    with motioncache.cached(pipe, CACHE):
        assert torch.equal(latents(pipe), cached)


def test_a_stream_that_began_without_a_cache_goes_on_without_it(pipe: MagiPipeline) -> None:
    vanilla = latents(pipe)
    stream = pipe.stream("a red circle", num_frames=72, output_type="latent", generator=generator())
    chunks = [next(stream)]
    with motioncache.cached(pipe, CACHE):
        chunks += list(stream)
    assert torch.equal(torch.cat(chunks, dim=1)[None], vanilla)


def test_the_summary_of_a_stopped_stream_counts_what_was_sampled(pipe: MagiPipeline) -> None:
    with motioncache.cached(pipe, "exact") as statistics:
        assert str(statistics) == "no video has been sampled with this cache yet"
        stream = pipe.stream("a red circle", num_frames=72, output_type="latent", generator=generator())
        next(stream)
        stream.close()
        summary = statistics.summary()
        assert summary.flops == summary.vanilla_flops
        latents(pipe)
        assert summary.flops < statistics.summary().flops


def test_casting_hooks_are_fine(pipe: MagiPipeline) -> None:
    apply_layerwise_casting(pipe.transformer.videodit_blocks, torch.bfloat16, torch.float32)
    vanilla = latents(pipe)
    with motioncache.cached(pipe, "exact"):
        assert torch.equal(latents(pipe), vanilla)


class Packed(nn.Linear):
    """A linear layer whose weight is int8, with a scale that only its forward knows."""

    scale: torch.Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> "Packed":
        packed = copy.deepcopy(layer)
        packed.__class__ = cls
        scale = layer.weight.detach().abs().amax() / 127
        packed.register_buffer("scale", scale)
        values = (layer.weight.detach() / scale).round().to(torch.int8)
        packed.weight = nn.Parameter(values, requires_grad=False)
        return packed  # pyright: ignore[reportReturnType]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(input, self.weight.to(input.dtype) * self.scale, self.bias)


def test_packed_layers_are_called(pipe: MagiPipeline) -> None:
    plain = latents(pipe)
    for layer in pipe.transformer.videodit_blocks.layers:
        layer.self_attention.linear_proj = Packed.of(layer.self_attention.linear_proj)
    pipe.transformer.final_linear.linear = Packed.of(pipe.transformer.final_linear.linear)
    packed = latents(pipe)
    assert 0 < (packed - plain).abs().mean() < 0.05 * plain.abs().mean()
    with motioncache.cached(pipe, "exact"):
        assert torch.equal(latents(pipe), packed)
    assert identity_of(pipe.transformer).weights == ()
