"""Encodes a prompt with T5."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, T5EncoderModel

from motioncache.checkpoints import check_dtypes, check_finite, check_report, check_sizes, read_mapping
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.extras import require_extra
from motioncache_magi.text.caption import clean_caption

_T5_FOLDER = "t5-v1_1-xxl"
_SIZES = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "relative_attention_num_buckets")
_DECODER = ("decoder.", "lm_head.")
"""The official folder holds the encoder alone; a whole T5 serves as well, and its decoder stays unread."""


class T5Text:
    """The text encoder: T5 v1.1 XXL.

    Args:
        folder: the encoder's own folder, or the one that holds it as `t5-v1_1-xxl`.
        text_length: the model's `caption_max_length`; longer prompts are cut.
        device: the device on which prompts are encoded; between prompts the encoder waits on the host.
        dtype: what the encoder computes in, and is held in; the released models were trained with float32.

    Raises:
        ConfigError: if the folder, the tokenizer or weights are missing or damaged, or a tensor too few or too many.
        MotionCacheError: if weights are no floats, NaN or infinite, or if a package of the extra `magi` is missing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        text_length: int = 800,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        require_extra("bs4", "cleaning a prompt")  # now, and not when the weights are loaded
        folder = _find(folder)
        check_sizes(str(folder / "config.json"), read_mapping(folder / "config.json"), _SIZES)
        self._tokenizer = _load_tokenizer(folder)
        self._encoder = _load_encoder(folder, dtype)
        self.channels: int = self._encoder.config.d_model
        self._text_length = text_length
        self._device = device

    @torch.no_grad()
    def __call__(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a prompt: float32 `[1, text_length, channels]` and int mask `[1, text_length]`, on the device.

        The end of the sentence has a position of its own, so that the mask of an empty prompt has a one in it.
        """
        inputs = self._tokenizer(
            clean_caption(prompt),
            max_length=self._text_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        tokens, mask = inputs["input_ids"].to(self._device), inputs["attention_mask"].to(self._device)
        with _visiting(self._encoder, self._device):
            return self._encoder(input_ids=tokens, attention_mask=mask).last_hidden_state.float(), mask


@contextmanager
def _visiting(model: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Copy a model to a device for the length of the block; what lies on the host is what it has again afterwards."""
    on_host = [
        (held, name, tensor, tensor.data)
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None
    ]
    model.to(device)
    try:
        yield
    finally:
        for held, name, tensor, master in on_host:
            tensor.data = master  # a module keeps its tensors and replaces their data, or replaces the tensors
            held[name] = tensor  # pyright: ignore[reportArgumentType]  # as it was


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
    except Exception as error:  # each of the libraries involved raises errors of its own
        raise ConfigError(f"the tokenizer in {folder} cannot be loaded: {_one_line(error)}") from error


def _load_encoder(folder: Path, dtype: torch.dtype) -> Any:
    load: Any = T5EncoderModel.from_pretrained  # the declared return type does not have the report
    try:
        check_dtypes(folder)
        encoder, report = load(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
    except MotionCacheError:
        raise
    except Exception as error:  # see _load_tokenizer
        raise ConfigError(f"the T5 encoder in {folder} cannot be loaded: {_one_line(error)}") from error
    check_report(folder, report, unused=_DECODER)
    for name, parameter in encoder.named_parameters():
        check_finite(folder, name, parameter)
    return encoder.requires_grad_(False)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
