"""What others hang on a transformer is refused by its name, before the cache is enabled and after it."""

import copy
from collections.abc import Callable
from types import MethodType, SimpleNamespace
from typing import Any

import cache_dit
import pytest
import torch
from accelerate.hooks import ModelHook as AccelerateHook
from accelerate.hooks import add_hook_to_module
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    PyramidAttentionBroadcastConfig,
    SkyReelsV2Transformer3DModel,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import HookRegistry, MagCacheConfig, ModelHook
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2AttnProcessor, SkyReelsV2TransformerBlock
from torch import nn

import motioncache
from motioncache import MotionCacheError
from motioncache.foreign import PackedHook

from .conftest import embeddings, generate, make_pipeline, make_transformer

Hang = Callable[[Any], object]


class FromScratch:
    """An attention processor that shares nothing with diffusers' own."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return hidden_states


class Derived(SkyReelsV2AttnProcessor):
    """One that builds on diffusers' own, as NAG does."""

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return 2 * super().__call__(*args, **kwargs)


class Renamed(SkyReelsV2AttnProcessor):
    """One that only carries something along."""


class OtherRope(nn.Module):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states


class OtherBlock(SkyReelsV2TransformerBlock):
    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return super().forward(*args, **kwargs) * 2


class Doubles(ModelHook):
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return output * 2


class Watches(AccelerateHook):
    pass


def hook_on(name: str, method: str = "register_forward_hook") -> Hang:
    return lambda transformer: getattr(transformer.get_submodule(name), method)(lambda *_: None)


def replace_forward(name: str) -> Hang:
    def hang(transformer: Any) -> None:
        module = transformer.get_submodule(name)
        module.forward = lambda *args, before=module.forward: before(*args) * 2

    return hang


def swap(name: str, create: Callable[[Any], Any]) -> Hang:
    def hang(transformer: Any) -> None:
        parent, _, last = name.rpartition(".")
        old = transformer.get_submodule(name)
        setattr(transformer.get_submodule(parent), last, create(old))

    return hang


def other_block(old: Any) -> Any:
    new = copy.deepcopy(old)
    new.__class__ = OtherBlock
    return new


def attend_to_images(transformer: Any) -> None:
    transformer.blocks[1].attn2.add_k_proj = nn.Linear(48, 48)


FOREIGN: dict[str, tuple[Hang, str]] = {
    "processor from scratch": (lambda t: t.set_attn_processor(FromScratch()), r"`blocks\.0\.attn1` has .* FromScratch"),
    "one derived processor": (
        lambda t: t.blocks[1].attn2.set_processor(Derived()),
        r"`blocks\.1\.attn2` has .* Derived",
    ),
    "image attention": (attend_to_images, r"`blocks\.1\.attn2` attends to .* image .*add_k_proj"),
    "hook on attention": (hook_on("blocks.0.attn1"), r"`blocks\.0\.attn1` has the forward hook .*hook_on"),
    "pre-hook on attention": (hook_on("blocks.1.attn2", "register_forward_pre_hook"), r"`blocks\.1\.attn2` has"),
    "hook on a block": (hook_on("blocks.1"), r"`blocks\.1` has the forward hook"),
    "hook on a norm": (hook_on("blocks.0.norm2"), r"`blocks\.0\.norm2` has the forward hook"),
    "hook on a linear layer": (hook_on("blocks.0.ffn.net.2"), r"`blocks\.0\.ffn\.net\.2` has"),
    "hook on rope": (hook_on("rope"), "`rope` has the forward hook"),
    "hook on the embedder": (hook_on("condition_embedder.time_proj"), r"`condition_embedder\.time_proj` has"),
    "hook on patches": (hook_on("patch_embedding"), "`patch_embedding` has the forward hook"),
    "forward of attention": (replace_forward("blocks.0.attn1"), r"forward of .* `blocks\.0\.attn1` has been replaced"),
    "forward of a norm": (replace_forward("norm_out"), "forward of .* `norm_out` has been replaced"),
    "forward of a block": (replace_forward("blocks.0"), r"forward of .* `blocks\.0` has been replaced"),
    "forward of the model": (replace_forward(""), r"forward of the SkyReelsV2Transformer3DModel has been replaced"),
    "another rope": (swap("rope", lambda _: OtherRope()), "`rope` is a OtherRope with a forward of its own"),
    "another block": (swap("blocks.1", other_block), r"`blocks\.1` is a OtherBlock with a forward of its own"),
    "diffusers hook": (
        lambda t: HookRegistry.check_if_exists_or_initialize(t.blocks[0].ffn).register_hook(Doubles(), "mine"),
        r"`blocks\.0\.ffn` has a Doubles",
    ),
    "accelerate hook": (lambda t: add_hook_to_module(t.blocks[0].ffn, Watches()), r"`blocks\.0\.ffn` has a Watches"),
    "compiled part": (lambda t: t.blocks[1].attn1.compile(), r"`blocks\.1\.attn1` is compiled"),
    "compiled forward": (
        lambda t: setattr(t, "forward", torch.compile(t.forward, backend="eager")),
        "forward of the SkyReelsV2Transformer3DModel has been replaced",
    ),
    "parallelism": (lambda t: setattr(t, "_parallel_config", SimpleNamespace()), "enable_parallelism is on"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_refused_when_the_cache_is_enabled(name: str) -> None:
    pipeline = make_pipeline()
    hang, says = FOREIGN[name]
    hang(pipeline.transformer)
    with pytest.raises(MotionCacheError, match=says):
        motioncache.enable_cache(pipeline, "exact")
    assert "_motioncache" not in vars(pipeline)
    assert "cache_context" not in vars(pipeline.transformer)


@pytest.mark.parametrize("name", FOREIGN)
def test_it_is_refused_when_the_pipeline_is_called(name: str) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    hang, says = FOREIGN[name]
    hang(pipeline.transformer)
    if name == "another block":
        says = r"`blocks\.1` is a OtherBlock|no longer runs the cache"
    with pytest.raises(MotionCacheError, match=says):
        generate(pipeline)
    motioncache.disable_cache(pipeline)
    assert "prepare_latents" not in vars(pipeline)


@pytest.mark.parametrize("name", ["hook on attention", "one derived processor", "compiled part"])
def test_it_is_refused_when_a_callback_hangs_it(name: str) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    hang, says = FOREIGN[name]

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 5:
            hang(pipe.transformer)
        return {}

    with pytest.raises(MotionCacheError, match=says):
        generate(pipeline, callback_on_step_end=callback)


def test_what_sees_what_it_always_sees_is_fine() -> None:
    pipeline = make_pipeline()
    pipeline.transformer.set_attn_processor(Renamed())
    seen: list[torch.Size] = []
    pipeline.transformer.register_forward_hook(lambda _, inputs, output: seen.append(output[0].shape))
    packed: list[int] = []
    pipeline.transformer.blocks[0].register_forward_hook(PackedHook(lambda *_: packed.append(1)))
    vanilla = generate(pipeline)
    before = seen.copy()
    seen.clear()
    with motioncache.cached(pipeline, "exact"):
        assert (generate(pipeline) - vanilla).abs().max() < 2e-5
    assert seen == before


def test_a_hook_on_the_model_that_tells_the_branches_apart_is_followed_or_refused() -> None:
    def louder(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if float(kwargs["encoder_hidden_states"].flatten()[0]) == marked:
            kwargs = {**kwargs, "hidden_states": kwargs["hidden_states"] * 1.5}
        return args, kwargs

    marked = float(embeddings()["negative_prompt_embeds"].flatten()[0])
    pipeline = make_pipeline()
    plain = generate(pipeline)
    pipeline.transformer.register_forward_pre_hook(louder, with_kwargs=True)
    vanilla = generate(pipeline)
    assert (vanilla - plain).abs().max() > 1e-2
    with motioncache.cached(pipeline, "exact"):
        assert (generate(pipeline) - vanilla).abs().max() < 2e-5


CACHES: dict[str, Any] = {
    "PyramidAttentionBroadcast": lambda: PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    ),
    "FasterCache": lambda: FasterCacheConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500, is_guidance_distilled=True
    ),
    "FirstBlockCache": FirstBlockCacheConfig,
    "TaylorSeerCache": TaylorSeerCacheConfig,
    "MagCache": lambda: MagCacheConfig(num_inference_steps=19, mag_ratios=[1.0] * 19),
}


@pytest.fixture
def _known_block() -> None:
    metadata = TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None)
    TransformerBlockRegistry.register(SkyReelsV2TransformerBlock, metadata)


@pytest.mark.usefixtures("_known_block")
@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("ours_first", [False, True])
def test_another_cache_of_diffusers_is_refused_by_its_name(name: str, ours_first: bool) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    if ours_first:
        motioncache.enable_cache(pipeline, "exact")
    pipeline.transformer.enable_cache(CACHES[name]())
    with pytest.raises(MotionCacheError, match=f"another cache is on for this transformer: {name} of diffusers"):
        generate(pipeline) if ours_first else motioncache.enable_cache(pipeline, "exact")
    pipeline.transformer.disable_cache()
    if not ours_first:
        motioncache.enable_cache(pipeline, "exact")
    assert (generate(pipeline) - vanilla).abs().max() < 2e-5
    motioncache.disable_cache(pipeline)
    assert torch.equal(generate(pipeline), vanilla)


@pytest.mark.usefixtures("_known_block")
def test_ours_may_go_before_another_cache_does() -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    motioncache.enable_cache(pipeline, "exact")
    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e-9))
    motioncache.disable_cache(pipeline)
    pipeline.transformer.disable_cache()
    assert torch.equal(generate(pipeline), vanilla)


@pytest.mark.parametrize("ours_first", [False, True])
def test_cache_dit_is_refused_by_its_name(ours_first: bool) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    if ours_first:
        motioncache.enable_cache(pipeline, "exact")
    cache_dit.enable_cache(pipeline, cache_config=cache_dit.DBCacheConfig())
    try:
        with pytest.raises(MotionCacheError, match="another cache is on for this transformer: cache-dit"):
            generate(pipeline) if ours_first else motioncache.enable_cache(pipeline, "exact")
    finally:
        cache_dit.disable_cache(pipeline)
    if ours_first:
        motioncache.disable_cache(pipeline)
    assert torch.equal(generate(pipeline), vanilla)


def test_another_transformer_is_noticed_before_the_call_and_during_it() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    own, other = pipeline.transformer, make_transformer(seed=4)
    pipeline.transformer = other
    with pytest.raises(MotionCacheError, match="another transformer than when the cache was enabled"):
        generate(pipeline)
    pipeline.transformer = own

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe.transformer = other
        return {}

    with pytest.raises(MotionCacheError, match="another transformer than when the cache was enabled"):
        generate(pipeline, callback_on_step_end=callback)
    motioncache.disable_cache(pipeline)
    assert vars(own).get("forward") is None  # the one that was hooked is put back, wherever it is


def test_embeddings_of_an_image_are_refused() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    pipeline.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "encoder_hidden_states_image": torch.zeros(1, 4, 16)}),
        with_kwargs=True,
    )
    with pytest.raises(MotionCacheError, match="encoder_hidden_states_image was passed"):
        generate(pipeline)


def test_a_summary_before_any_video_says_so() -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, "exact") as statistics:
        assert str(statistics) == "no video has been sampled with this cache yet"
    assert str(statistics) == "no video has been sampled with this cache yet"


def test_a_bound_method_of_the_class_is_the_forward_itself() -> None:
    pipeline = make_pipeline()
    pipeline.transformer.forward = MethodType(SkyReelsV2Transformer3DModel.forward, pipeline.transformer)
    vanilla = generate(pipeline)
    with motioncache.cached(pipeline, "exact"):
        assert (generate(pipeline) - vanilla).abs().max() < 2e-5
