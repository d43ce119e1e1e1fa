"""Command line of the training: `python -m motioncache_skyreels.train vae|decoder|transformer --help`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from motioncache.errors import MotionCacheError
from motioncache_diffusers.terminal import run_command
from motioncache_skyreels.train.transformer import FLOW_SHIFT, train_transformer
from motioncache_skyreels.train.vae import train_decoder, train_vae
from motioncache_train.captions import CaptionEncoder, create_tokenizer
from motioncache_train.command import start, training_parser
from motioncache_train.text import create_text_encoder


def main(arguments: list[str] | None = None) -> int:
    parser = training_parser("python -m motioncache_skyreels.train", __doc__, ("vae", "decoder", "transformer"))
    parser.add_argument("--short-clips", type=int, default=8000, help="training clips of one chunk (transformer)")
    parser.add_argument("--long-clips", type=int, default=1500, help="training clips of five chunks (transformer)")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the blocks; the start is slow, and training a quarter faster (transformer)",
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Train one part and save it; the transformer's run saves the whole pipeline."""
    config = replace(start(options), compile=options.compile)
    model = options.runs / "motioncache-tiny"
    if options.part == "vae":
        train_vae(config).save_pretrained(model / "vae")
        return 0
    source = options.model or model
    if not (source / "vae" / "config.json").is_file():
        raise MotionCacheError(f"there is no autoencoder in {source}/vae: train `vae` first, or pass --model FOLDER")
    vae = AutoencoderKLWan.from_pretrained(source / "vae")
    if options.part == "decoder":
        train_decoder(config, vae).to(torch.bfloat16).save_pretrained(model / "vae")
        return 0
    initial = SkyReelsV2Transformer3DModel.from_pretrained(options.model / "transformer") if options.model else None
    tokenizer = create_tokenizer()
    encoder = create_text_encoder(len(tokenizer))
    transformer = train_transformer(
        config,
        vae,
        CaptionEncoder(tokenizer, encoder),
        short_clips=options.short_clips,
        long_clips=options.long_clips,
        initial=initial,
    )
    save_pipeline(model, transformer=transformer, vae=vae, tokenizer=tokenizer, text_encoder=encoder)
    return 0


def save_pipeline(
    folder: Path,
    *,
    transformer: SkyReelsV2Transformer3DModel,
    vae: AutoencoderKLWan,
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: UMT5EncoderModel,
) -> None:
    """Save in bfloat16, in the format of the official `*-Diffusers` repositories."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT, solver_order=2
    )
    pipeline = SkyReelsV2DiffusionForcingPipeline(
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]
        text_encoder=text_encoder.to(torch.bfloat16),
        transformer=transformer.to(torch.bfloat16),
        vae=vae.to(torch.bfloat16),
        scheduler=scheduler,
    )
    pipeline.save_pretrained(folder)
    # transformers 5 writes its internal name of the tokenizer's class; the public one loads everywhere.
    for path in (folder / "model_index.json", folder / "tokenizer" / "tokenizer_config.json"):
        path.write_text(path.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


if __name__ == "__main__":
    sys.exit(main())
