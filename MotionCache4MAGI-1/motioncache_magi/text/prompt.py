"""From a prompt to the caption and the null caption of every chunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, T5EncoderModel

from motioncache.errors import ConfigError, MotionCacheError
from motioncache.extras import require_extra
from motioncache_magi.text.caption import clean_caption
from motioncache_magi.text.special_tokens import SpecialTokens, TextSwitches, Token

NULL_WORDS = 50
"""Positions of the null caption that are attended to (a constant of the official code)."""

_T5_FOLDER = "t5-v1_1-xxl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkText:
    """What each chunk reads, prefix chunks first.

    Args:
        caption: `[chunks, words, channels]`.
        caption_mask: bool `[chunks, words]`, True for a word to attend to; all False for a prefix chunk.
        null: embeddings of the unconditional branch, `[chunks, words, channels]`.
        null_mask: bool `[chunks, words]`.
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
    """Text of every chunk, on the caption's device and in its dtype.

    Special tokens are put in front of the words and count as words; the last ones fall off. Where `mask` is all zero
    there is no caption: both branches read the null caption, whatever the switches say.

    Args:
        caption: `[1, words, channels]`.
        mask: `[1, words]`, non-zero for a word to attend to.
        null_caption: the model's `null_caption_embedding`, `[words, channels]`.
        chunks: of the whole video, prefix included.
        prefix_chunks: leading chunks that are given and not denoised; the mask of their caption is empty.
        special_tokens: None for a video without any, also without those that are on by default.

    Raises:
        ConfigError: if a switch that is off by default is on, and there are no special tokens.
        MotionCacheError: if the shapes do not fit, or the prefix leaves no chunk to denoise.
    """
    _check(caption, mask, null_caption, chunks, prefix_chunks)
    if special_tokens is None and (wanted := switches.beyond_default()):
        raise ConfigError(f"{', '.join(wanted)}: on, but no special tokens are given (special_tokens.npz)")
    plain_null = null_caption.to(caption)
    null = _prepend(_vectors(special_tokens, switches.before_null(), plain_null), plain_null)  # [words, channels]
    null_mask = torch.arange(len(null), device=caption.device) < NULL_WORDS  # as many with special tokens as without
    nulls, null_masks = null.expand(chunks, -1, -1), null_mask.expand(chunks, -1)
    if not mask.any():
        return ChunkText(caption=nulls, caption_mask=null_masks, null=nulls, null_mask=null_masks)

    captions = [plain_null] * prefix_chunks
    masks = [torch.zeros_like(null_mask)] * prefix_chunks
    for following in reversed(range(chunks - prefix_chunks)):
        front = _vectors(special_tokens, switches.before_caption(following), caption)  # [tokens, channels]
        captions.append(_prepend(front, caption[0]))
        masks.append(_prepend(null_mask.new_ones(len(front)), mask[0] != 0))
    return ChunkText(caption=torch.stack(captions), caption_mask=torch.stack(masks), null=nulls, null_mask=null_masks)


def _check(
    caption: torch.Tensor, mask: torch.Tensor, null_caption: torch.Tensor, chunks: int, prefix_chunks: int
) -> None:
    if caption.shape != (1, *null_caption.shape) or mask.shape != caption.shape[:2]:
        raise MotionCacheError(
            f"caption {tuple(caption.shape)} and mask {tuple(mask.shape)} have to be [1, words, channels] and "
            f"[1, words], with the model's null caption {tuple(null_caption.shape)} as [words, channels]"
        )
    if not 0 <= prefix_chunks < chunks:
        raise MotionCacheError(f"a prefix of {prefix_chunks} chunks leaves nothing to denoise of {chunks} chunks")


def _vectors(special_tokens: SpecialTokens | None, tokens: Sequence[Token], like: torch.Tensor) -> torch.Tensor:
    """`[tokens, channels]`; none where there are no special tokens."""
    if special_tokens is None or not tokens:
        return like.new_empty(0, like.shape[-1])
    return special_tokens.stack(tokens).to(like)


def _prepend(front: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """`front` and as much of `row` as leaves it as long as it was."""
    return torch.cat([front, row])[: len(row)]


class T5Text:
    """The text encoder: T5 v1.1 XXL, in float32.

    Args:
        folder: the encoder's own folder, or the one that holds it as `t5-v1_1-xxl`.
        words: the model's `caption_max_length`; longer prompts are cut.
        device: where prompts are encoded.
        offload: keep the encoder on the CPU between prompts.

    Raises:
        ConfigError: if the folder, the tokenizer or weights are missing or damaged.
        MotionCacheError: if a package of the extra `magi` is missing.
    """

    def __init__(
        self, folder: Path, *, words: int = 800, device: torch.device | str = "cpu", offload: bool = False
    ) -> None:
        require_extra("bs4", "cleaning a prompt")  # now, and not when the weights are loaded
        folder = _find(folder)
        self._tokenizer = _load_tokenizer(folder)
        self._home = "cpu" if offload else device
        self._encoder = _load_encoder(folder)
        self._encoder.to(self._home)
        self._words = words
        self._device = device

    @torch.no_grad()
    def __call__(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings float32 `[1, words, channels]` and int mask `[1, words]` of a prompt, on the device.

        The end of the sentence is a word: also an empty prompt has a mask of one.
        """
        inputs = self._tokenizer(
            clean_caption(prompt), max_length=self._words, padding="max_length", truncation=True, return_tensors="pt"
        )
        words, mask = inputs["input_ids"].to(self._device), inputs["attention_mask"].to(self._device)
        self._encoder.to(self._device)
        try:
            return self._encoder(input_ids=words, attention_mask=mask).last_hidden_state, mask
        finally:
            self._encoder.to(self._home)


def _find(folder: Path) -> Path:
    for candidate in (folder / _T5_FOLDER, folder):
        if (candidate / "config.json").is_file():
            return candidate
    raise ConfigError(f"there is no T5 encoder in {folder}: neither it nor its {_T5_FOLDER}/ has a config.json")


def _load_tokenizer(folder: Path) -> Any:
    if not (folder / "tokenizer.json").is_file():
        if not (folder / "spiece.model").is_file():
            raise ConfigError(f"{folder} has no tokenizer: neither spiece.model nor tokenizer.json")
        for module in ("sentencepiece", "google.protobuf"):
            require_extra(module, f"reading {folder / 'spiece.model'}")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # loading fails in as many ways as there are libraries involved
        raise ConfigError(f"the tokenizer in {folder} cannot be loaded: {_one_line(error)}") from error


def _load_encoder(folder: Path) -> nn.Module:
    load: Any = T5EncoderModel.from_pretrained  # its type leaves out the report
    try:
        encoder, report = load(folder, dtype=torch.float32, local_files_only=True, output_loading_info=True)
    except Exception as error:  # as above
        raise ConfigError(f"the T5 encoder in {folder} cannot be loaded: {_one_line(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise ConfigError(f"the T5 encoder in {folder} lacks {len(missing)} tensors, such as {missing[0]}")
    return encoder.requires_grad_(False)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
