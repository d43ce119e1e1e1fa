"""Command line of the training: `python -m motioncache_magi.train vae|transformer|distilled --help`."""

import argparse
import sys

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.command import run_command
from motioncache_magi.checkpoint import load_dit, load_vae
from motioncache_magi.train.distill import distilled_config, train_distilled
from motioncache_magi.train.save import create_text_encoder, save_dit, save_text, save_vae
from motioncache_magi.train.transformer import load_clips, tiny_config, train_transformer
from motioncache_magi.train.vae import scale_factor, train_vae
from motioncache_train.captions import CaptionEncoder, create_tokenizer
from motioncache_train.command import start, training_parser


def main(arguments: list[str] | None = None) -> int:
    parser = training_parser("python -m motioncache_magi.train", __doc__, ("vae", "transformer", "distilled"))
    parser.add_argument("--clips", type=int, default=2000, help="training clips of four chunks (transformer)")
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
    encode = CaptionEncoder(tokenizer, encoder)
    if options.part == "distilled":
        if not (model / "magi" / "base").is_dir():
            raise MotionCacheError(f"there is no base model in {model}/magi/base: train the transformer first")
        settings = tiny_config(scale)
        teacher = load_dit(model / "magi" / "base", settings, options.device)
        long = load_clips(config, vae, scale, long_clips=options.clips).long
        student = train_distilled(config, teacher, settings, long, encode)
        save_dit(model / "magi" / "distilled", student, distilled_config(settings))
        return 0
    save_dit(
        model / "magi" / "base",
        train_transformer(config, load_clips(config, vae, scale, long_clips=options.clips), scale, encode),
        tiny_config(scale),
    )
    save_text(model / "t5" / "t5-v1_1-xxl", tokenizer, encoder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
