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
from motioncache.transformer_check import check_attention, check_class, check_forwards, check_other_caches

_INSTEAD = "load the pipeline without it, and pass parallel='ulysses' to enable_cache"
"""What to do about diffusers' own division among processes."""


def check_transformer(transformer: Any, forwards: Forwards | None = None) -> None:
    """Refuse a transformer whose blocks the cache cannot stand in for.

    Args:
        forwards: what the cache has put in place of forwards.
    """
    transformer = uncompiled(transformer)
    check_class(transformer, SkyReelsV2Transformer3DModel)
    check_other_caches(transformer, _INSTEAD)
    check_forwards(_stood_in_for(transformer))
    for name, attention in _attentions(transformer):
        _check_attention(name, attention)
    check_modules(transformer, forwards or {}, {transformer, *transformer.blocks})


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
    check_attention(name, attention, SkyReelsV2Attention, SkyReelsV2AttnProcessor, _INSTEAD)
    if attention.add_k_proj is not None:
        raise MotionCacheError(
            f"`{name}` attends to the embeddings of an image as well (add_k_proj), which no diffusion-forcing "
            "pipeline of SkyReels-V2 passes, and the cache does not know. Use a transformer without added_kv_proj_dim"
        )
