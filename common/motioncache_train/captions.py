"""Captions for the shipped models: a tokenizer of whole words, and an encoder that remembers its embeddings.

The text encoder has random weights that are not trained. An encoder that was trained with the model merged colours and
directions; random weights keep the words apart.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from motioncache_eval.scenes import BACKGROUND_COLOURS, DIRECTIONS, OBJECT_COLOURS, SHAPES, SPEEDS

TEXT_DIM = 64


def create_tokenizer() -> PreTrainedTokenizerFast:
    """Create a tokenizer with one token for each word; a word outside the grammar of captions becomes `<unk>`."""
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
    """Turns a caption into embeddings `[text_length, TEXT_DIM]`, and remembers them: the grammar has few captions."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, encoder: PreTrainedModel) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._embeddings: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, caption: str) -> torch.Tensor:
        if caption not in self._embeddings:
            inputs = self._tokenizer(caption, return_tensors="pt")
            self._embeddings[caption] = self._encoder(inputs.input_ids, inputs.attention_mask).last_hidden_state[0]
        return self._embeddings[caption].clone()


def exchange_words(caption: str, words: tuple[str, ...]) -> str:
    """Replace each of `words` in a caption by the one that follows it in the list; the first one follows the last."""
    replacements = {word: words[(i + 1) % len(words)] for i, word in enumerate(words)}
    return " ".join(replacements.get(word, word) for word in caption.split())


EXCHANGES: dict[str, tuple[str, ...]] = {
    "loss": (),
    "wrong_direction": ("left", "right", "up", "down"),
    "wrong_colour": ("red", "green", "blue", "yellow", "white"),
    "wrong_shape": ("circle", "square"),
}
"""Words that are exchanged for each validation figure: the loss of a model that reads a word rises by its exchange."""
