"""Refuses a transformer on which something else is at work that the cache would pass by, and says what and where."""

from collections.abc import Iterator
from typing import Any

from diffusers import HeliosTransformer3DModel
from diffusers.models.attention import FeedForward
from diffusers.models.transformers.transformer_helios import (
    HeliosAttention,
    HeliosAttnProcessor,
    HeliosOutputNorm,
    HeliosRotaryPosEmbed,
    HeliosTimeTextEmbedding,
    HeliosTransformerBlock,
)

from motioncache.errors import MotionCacheError
from motioncache.foreign import Forwards, check_modules
from motioncache.transformer_check import check_attention, check_class, check_forwards, check_other_caches

_INSTEAD = "load the pipeline without it"
"""What to do about diffusers' own division among processes."""


def check_transformer(transformer: Any, forwards: Forwards | None = None) -> None:
    """Refuse a transformer whose blocks the cache cannot stand in for.

    Args:
        forwards: what the cache has put in place of forwards.
    """
    check_class(transformer, HeliosTransformer3DModel)
    check_other_caches(transformer, _INSTEAD)
    if not transformer.config.has_multi_term_memory_patch:
        raise MotionCacheError(
            "the transformer embeds no history (has_multi_term_memory_patch is false): its pipeline would sample "
            "every chunk by itself. Use a checkpoint of Helios"
        )
    check_forwards(_stood_in_for(transformer))
    for index, block in enumerate(transformer.blocks):
        for name in ("attn1", "attn2"):
            attention = getattr(block, name)
            check_attention(f"blocks.{index}.{name}", attention, HeliosAttention, HeliosAttnProcessor, _INSTEAD)
    check_modules(transformer, forwards or {})


def _stood_in_for(transformer: HeliosTransformer3DModel) -> Iterator[tuple[str, Any, Any]]:
    """Name, module and expected class wherever the cache does something in place of a module's forward."""
    yield "transformer", transformer, HeliosTransformer3DModel
    yield "rope", transformer.rope, HeliosRotaryPosEmbed
    yield "condition_embedder", transformer.condition_embedder, HeliosTimeTextEmbedding
    yield "norm_out", transformer.norm_out, HeliosOutputNorm
    for index, block in enumerate(transformer.blocks):
        yield f"blocks.{index}", block, HeliosTransformerBlock
        yield f"blocks.{index}.ffn", block.ffn, FeedForward
