"""Command line of the training: `python -m motioncache_magi.train vae|decoder|transformer|distilled --help`."""

import argparse
import sys
from pathlib import Path

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.command import run_command
from motioncache_magi.loading.checkpoint import load_dit, load_vae
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.train.distill import distilled_config, train_distilled
from motioncache_magi.train.save import create_text_encoder, save_dit, save_text, save_vae
from motioncache_magi.train.transformer import load_clips, tiny_config, train_transformer
from motioncache_magi.train.vae import scale_factor, train_decoder, train_vae
from motioncache_magi.vae.vit import ViTVAE
from motioncache_train.captions import CaptionEncoder, create_tokenizer
from motioncache_train.command import start, training_parser


def main(arguments: list[str] | None = None) -> int:
    parser = training_parser(
        "python -m motioncache_magi.train", __doc__, ("vae", "decoder", "transformer", "distilled")
    )
    parser.add_argument(
        "--clips", type=int, default=2000, help="number of training clips of four chunks (transformer, distilled)"
    )
    parser.add_argument(
        "--two-movers", type=int, default=0, help="number of additional clips with two movers (transformer, distilled)"
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Train one part and save it."""
    config = start(options)
    model = options.runs / "motioncache-tiny"
    if options.part == "vae":
        save_vae(model / "vae", train_vae(config))
        return 0
    source = options.model or model
    vae = _load_vae(source, options.device)
    if options.part == "decoder":
        save_vae(model / "vae", train_decoder(config, vae))
        return 0
    tokenizer = create_tokenizer()
    encoder = create_text_encoder(len(tokenizer))
    encode = CaptionEncoder(tokenizer, encoder)
    base = source / "magi" / "base"
    if options.model or options.part == "distilled":
        settings = _saved_settings(base)
    else:
        settings = tiny_config(scale_factor(vae, config))
    scale = settings.runtime.scale_factor
    clips = load_clips(config, vae, scale, long_clips=options.clips, two_movers=options.two_movers)
    if options.part == "distilled":
        teacher = load_dit(base, settings, options.device)
        student = train_distilled(config, teacher, settings, clips.long, encode)
        save_dit(model / "magi" / "distilled", student, distilled_config(settings))
        return 0
    initial = load_dit(base, settings) if options.model else None
    save_dit(model / "magi" / "base", train_transformer(config, clips, settings, encode, initial=initial), settings)
    save_text(model / "t5" / "t5-v1_1-xxl", tokenizer, encoder)
    return 0


def _load_vae(source: Path, device: str) -> ViTVAE:
    if not (source / "vae" / "config.json").is_file():
        raise MotionCacheError(f"there is no autoencoder in {source}/vae: train one first, or pass --model FOLDER")
    return load_vae(source / "vae", torch.float32, device)


def _saved_settings(base: Path) -> MagiConfig:
    if not (base / "config.json").is_file():
        raise MotionCacheError(f"there is no base model in {base}: train the transformer first")
    return MagiConfig.from_file(base / "config.json")


if __name__ == "__main__":
    sys.exit(main())
