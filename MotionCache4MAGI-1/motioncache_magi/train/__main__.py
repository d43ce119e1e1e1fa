"""Command line of the training: `python -m motioncache_magi.train vae|transformer --help`."""

import argparse
import sys

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.command import run_command
from motioncache_magi.checkpoint import load_vae
from motioncache_magi.train.save import create_text_encoder, save_dit, save_text, save_vae
from motioncache_magi.train.transformer import tiny_config, train_transformer
from motioncache_magi.train.vae import scale_factor, train_vae
from motioncache_train.captions import CaptionEncoder, create_tokenizer
from motioncache_train.command import start, training_parser


def main(arguments: list[str] | None = None) -> int:
    parser = training_parser("python -m motioncache_magi.train", __doc__, ("vae", "transformer"))
    options = parser.parse_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Train one part and save it."""
    config = start(options)
    model = options.runs / "motioncache-tiny"
    if options.part == "vae":
        save_vae(model / "vae", train_vae(config))
        return 0
    if not (model / "vae" / "config.json").is_file():
        raise MotionCacheError(f"there is no autoencoder in {model}/vae: train one first")
    vae = load_vae(model / "vae", torch.float32, options.device)
    scale = scale_factor(vae, config)
    tokenizer = create_tokenizer()
    encoder = create_text_encoder(len(tokenizer))
    dit = train_transformer(
        config,
        vae,
        scale,
        CaptionEncoder(tokenizer, encoder),
        short_clips=options.short_clips,
        long_clips=options.long_clips,
    )
    save_dit(model / "magi" / "base", dit, tiny_config(scale))
    save_text(model / "t5" / "t5-v1_1-xxl", tokenizer, encoder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
