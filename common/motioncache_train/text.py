"""The text encoder of motioncache-tiny: a small UMT5 with frozen random weights."""

import torch
from transformers import UMT5Config, UMT5EncoderModel

from motioncache_train.captions import TEXT_DIM


def create_text_encoder(vocabulary: int, seed: int = 0) -> UMT5EncoderModel:
    """Make the encoder.

    Args:
        vocabulary: number of the tokenizer's tokens.
    """
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=vocabulary, d_model=TEXT_DIM, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return UMT5EncoderModel(config).eval().requires_grad_(False)
