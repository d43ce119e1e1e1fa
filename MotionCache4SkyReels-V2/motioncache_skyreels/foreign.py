"""Refuses a transformer on which something else is at work that the cache would pass by, and says what and where."""

from collections.abc import Iterator
from typing import Any

from diffusers import SkyReelsV2Transformer3DModel
from diffusers.models.attention import FeedForward
from diffusers.models.transformers.transformer_skyreels_v2 import (
    SkyReelsV2Attention,
    SkyReelsV2AttnProcessor,
    SkyReelsV2RotaryPosEmbed,
    SkyReelsV2TimeTextImageEmbedding,
    SkyReelsV2TransformerBlock,
)

from motioncache.compiling import uncompiled
from motioncache.errors import MotionCacheError
from motioncache.foreign import Forwards, check_modules


def check_transformer(transformer: Any, forwards: Forwards | None = None) -> None:
    """Refuse a transformer whose blocks the cache cannot stand in for.

    Args:
        forwards: what the cache has put in place of forwards.
    """
    transformer = uncompiled(transformer)
    if not isinstance(transformer, SkyReelsV2Transformer3DModel):
        raise MotionCacheError(
            f"the pipeline's transformer is a {type(transformer).__name__}; use a pipeline with a "
            "SkyReelsV2Transformer3DModel"
        )
    _check_other_caches(transformer)
    for name, module, expected in _stood_in_for(transformer):
        if type(module).forward is not expected.forward or expected.forward.__module__ != expected.__module__:
            raise MotionCacheError(
                f"`{name}` is a {type(module).__name__} with a forward of its own, which the cache would pass by; it "
                f"stands in for a {expected.__name__} only"
            )
    for name, attention in _attentions(transformer):
        _check_attention(name, attention)
    check_modules(transformer, forwards or {}, {transformer, *transformer.blocks})


def _check_other_caches(transformer: Any) -> None:
    """Refuse what is set on the transformer as a whole."""
    other = getattr(transformer, "_cache_config", None)
    if other is not None:
        name = type(other).__name__.removesuffix("Config")
        raise MotionCacheError(
            f"another cache is on for this transformer: {name} of diffusers. Call transformer.disable_cache() first"
        )
    if getattr(transformer, "_is_cached", False):
        raise MotionCacheError(
            "another cache is on for this transformer: cache-dit. Call cache_dit.disable_cache(pipeline) first"
        )
    if getattr(transformer, "_parallel_config", None) is not None:
        raise MotionCacheError(
            "transformer.enable_parallelism is on, which divides tokens among processes, past the cache: "
            "load the pipeline without it, and pass parallel='ulysses' to enable_cache"
        )


def _stood_in_for(transformer: SkyReelsV2Transformer3DModel) -> Iterator[tuple[str, Any, Any]]:
    """Name, module and expected class wherever the cache does something in place of a module's forward."""
    yield "transformer", transformer, SkyReelsV2Transformer3DModel
    yield "rope", transformer.rope, SkyReelsV2RotaryPosEmbed
    yield "condition_embedder", transformer.condition_embedder, SkyReelsV2TimeTextImageEmbedding
    for index, block in enumerate(transformer.blocks):
        yield f"blocks.{index}", block, SkyReelsV2TransformerBlock
        yield f"blocks.{index}.ffn", block.ffn, FeedForward


def _attentions(transformer: SkyReelsV2Transformer3DModel) -> Iterator[tuple[str, Any]]:
    for index, block in enumerate(transformer.blocks):
        yield f"blocks.{index}.attn1", block.attn1
        yield f"blocks.{index}.attn2", block.attn2


def _check_attention(name: str, attention: Any) -> None:
    if type(attention).forward is not SkyReelsV2Attention.forward:
        raise MotionCacheError(
            f"`{name}` is a {type(attention).__name__} with a forward of its own, which the cache would pass by"
        )
    call = type(attention.processor).__call__
    if call is not SkyReelsV2AttnProcessor.__call__ or call.__module__ != SkyReelsV2AttnProcessor.__module__:
        raise MotionCacheError(
            f"`{name}` has the attention processor {type(attention.processor).__name__}, which the cache would pass "
            "by: it runs attention itself, on the tokens that are due. Call transformer.set_attn_processor("
            "SkyReelsV2AttnProcessor()); for another kernel use transformer.set_attention_backend"
        )
    if attention.processor._parallel_config is not None:
        raise MotionCacheError(
            f"the processor of `{name}` divides tokens among processes, past the cache: load the pipeline "
            "without it, and pass parallel='ulysses' to enable_cache"
        )
    if attention.add_k_proj is not None:
        raise MotionCacheError(
            f"`{name}` attends to the embeddings of an image as well (add_k_proj), which no diffusion-forcing "
            "pipeline of SkyReels-V2 passes, and the cache does not know. Use a transformer without added_kv_proj_dim"
        )
