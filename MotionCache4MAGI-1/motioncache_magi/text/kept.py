"""Encodes each prompt of many videos once."""

from functools import lru_cache

import torch

from motioncache_magi.text.prompt import T5Text

KEPT = 16
"""Prompts whose embeddings are kept; the videos of one prompt follow each other."""


class KeptText:
    """Takes the place of a pipeline's text encoder, and gives the same tensors, which nobody changes."""

    def __init__(self, encoder: T5Text) -> None:
        self.channels = encoder.channels
        self._encode = lru_cache(KEPT)(encoder)

    def __call__(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """See `T5Text`."""
        return self._encode(prompt)
