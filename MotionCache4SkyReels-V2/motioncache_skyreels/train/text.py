"""The text side of motioncache-tiny: a word-level tokenizer and a small UMT5 encoder with frozen random weights.

Trained jointly, the encoder merged colours and directions; random frozen weights keep the words apart.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from motioncache_eval.scenes import BACKGROUND_COLOURS, DIRECTIONS, OBJECT_COLOURS, SHAPES, SPEEDS

TEXT_DIM = 64


def create_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; a word outside the grammar of the captions becomes `<unk>`."""
    grammar = ["a", "and", "over", "background", "moving", "resting", "panning"]
    words = [*grammar, *OBJECT_COLOURS, *SHAPES, *DIRECTIONS, *SPEEDS, *BACKGROUND_COLOURS]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def create_text_encoder(vocabulary: int, seed: int = 0) -> UMT5EncoderModel:
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=vocabulary, d_model=TEXT_DIM, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return UMT5EncoderModel(config).eval().requires_grad_(False)


class CaptionEncoder:
    """Caption -> embeddings `[words, TEXT_DIM]`, kept: the grammar has few captions."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, encoder: UMT5EncoderModel) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._known: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def __call__(self, caption: str) -> torch.Tensor:
        if caption not in self._known:
            inputs = self._tokenizer(caption, return_tensors="pt")
            self._known[caption] = self._encoder(inputs.input_ids, inputs.attention_mask).last_hidden_state[0]
        return self._known[caption].clone()
