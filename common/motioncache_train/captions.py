"""Captions for the shipped models: a word-level tokenizer, and embeddings that are kept.

Text encoders stay random and frozen: trained jointly, one merged colours and directions; random weights keep the words
apart.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

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


class CaptionEncoder:
    """Caption -> embeddings `[words, TEXT_DIM]`, kept: the grammar has few captions."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, encoder: PreTrainedModel) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, caption: str) -> torch.Tensor:
        if caption not in self._known:
            inputs = self._tokenizer(caption, return_tensors="pt")
            self._known[caption] = self._encoder(inputs.input_ids, inputs.attention_mask).last_hidden_state[0]
        return self._known[caption].clone()


def exchange_words(caption: str, words: tuple[str, ...]) -> str:
    """Put the following one in the place of each of `words`."""
    following = dict(zip(words, words[1:] + words[:1], strict=True))
    return " ".join(following.get(word, word) for word in caption.split())


EXCHANGES: dict[str, tuple[str, ...]] = {
    "loss": (),
    "wrong_direction": ("left", "right", "up", "down"),
    "wrong_colour": ("red", "green", "blue", "yellow", "white"),
    "wrong_shape": ("circle", "square"),
}
"""Validation figures and the words that each exchanges: a model that reads a word loses by its exchange."""
