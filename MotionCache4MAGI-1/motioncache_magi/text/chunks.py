"""The caption and the null caption of every chunk, from the embeddings of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_magi.text.special_tokens import SpecialTokens, TextSwitches, Token

NULL_TEXT_LENGTH = 50
"""Number of positions of the null caption that are attended to (a constant of the official code)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkText:
    """The text that each chunk attends to, prefix chunks first.

    Args:
        caption: embeddings of the branch with text, `[chunks, text_length, channels]`.
        caption_mask: bool `[chunks, text_length]`, True at positions to attend to; all False for a prefix chunk.
        null: embeddings of the branches without text, `[chunks, text_length, channels]`.
        null_mask: bool `[chunks, text_length]`.
    """

    caption: torch.Tensor
    caption_mask: torch.Tensor
    null: torch.Tensor
    null_mask: torch.Tensor


def chunk_text(
    *,
    caption: torch.Tensor,
    mask: torch.Tensor,
    null_caption: torch.Tensor,
    chunks: int,
    prefix_chunks: int,
    special_tokens: SpecialTokens | None,
    switches: TextSwitches,
) -> ChunkText:
    """Put together the text of every chunk, on the caption's device and in its dtype.

    Special tokens stand in front of the caption and move it back; what is moved beyond `text_length` is cut. A mask of
    zeros means that there is no caption: both branches then attend to the null caption, whatever the switches say.

    Args:
        caption: `[1, text_length, channels]`.
        mask: `[1, text_length]`, non-zero at positions to attend to.
        null_caption: the model's `null_caption_embedding`, `[text_length, channels]`.
        chunks: number of chunks of the whole video, prefix included.
        prefix_chunks: number of leading chunks that are not denoised; the mask of their caption is empty.
        special_tokens: None uses no special tokens, not even those whose switch is on by default.

    Raises:
        ConfigError: if there are no special tokens, and a switch that is off by default is on.
        MotionCacheError: if the shapes do not fit, or the prefix leaves no chunk to denoise.
    """
    _check(caption, mask, null_caption, chunks, prefix_chunks)
    _check_switches(special_tokens, switches)
    null_caption = null_caption.to(caption)
    null = _prepend(_vectors(special_tokens, switches.before_null(), null_caption), null_caption)
    null_mask = torch.arange(len(null), device=caption.device) < NULL_TEXT_LENGTH  # special tokens do not add to it
    nulls, null_masks = null.expand(chunks, -1, -1), null_mask.expand(chunks, -1)
    if not mask.any():
        return ChunkText(caption=nulls, caption_mask=null_masks, null=nulls, null_mask=null_masks)

    captions = [null_caption] * prefix_chunks
    masks = [torch.zeros_like(null_mask)] * prefix_chunks
    for chunk in range(prefix_chunks, chunks):
        tokens = switches.before_caption(chunks - 1 - chunk)
        front = _vectors(special_tokens, tokens, caption)  # [tokens, channels]
        captions.append(_prepend(front, caption[0]))
        masks.append(_prepend(null_mask.new_ones(len(front)), mask[0] != 0))
    return ChunkText(caption=torch.stack(captions), caption_mask=torch.stack(masks), null=nulls, null_mask=null_masks)


def _check(
    caption: torch.Tensor, mask: torch.Tensor, null_caption: torch.Tensor, chunks: int, prefix_chunks: int
) -> None:
    if caption.shape != (1, *null_caption.shape) or mask.shape != caption.shape[:2]:
        raise MotionCacheError(
            f"caption {tuple(caption.shape)} and mask {tuple(mask.shape)} must be [1, text_length, channels] and "
            f"[1, text_length], where the model's null caption {tuple(null_caption.shape)} is [text_length, channels]"
        )
    if not 0 <= prefix_chunks < chunks:
        raise MotionCacheError(f"a prefix of {prefix_chunks} chunks leaves nothing to denoise of {chunks} chunks")


def _check_switches(special_tokens: SpecialTokens | None, switches: TextSwitches) -> None:
    wanted = switches.beyond_default()
    if special_tokens is None and wanted:
        raise ConfigError(
            f"{', '.join(wanted)}: on, but no special tokens are loaded: pass the path of special_tokens.npz"
        )


def _vectors(special_tokens: SpecialTokens | None, tokens: Sequence[Token], like: torch.Tensor) -> torch.Tensor:
    """Stack the vectors of tokens, `[tokens, channels]`; the stack is empty if there are no special tokens."""
    if special_tokens is None or not tokens:
        return like.new_empty(0, like.shape[-1])
    return special_tokens.stack(tokens).to(like)


def _prepend(front: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """Put `front` before `row` and cut the end, so that the result is as long as `row`."""
    return torch.cat([front, row])[: len(row)]
