"""Command line of the training: `python -m motioncache_helios.train transformer --help`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    HeliosPipeline,
    HeliosScheduler,
    HeliosTransformer3DModel,
    SkyReelsV2Transformer3DModel,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast, UMT5EncoderModel

from motioncache.errors import MotionCacheError
from motioncache_eval.command import run_command
from motioncache_helios.train.transformer import create_from_wan, train_transformer
from motioncache_train.captions import CaptionEncoder
from motioncache_train.command import start, training_parser

CHECKPOINT_EVERY = 50
"""Steps; on one thread of a busy CPU they take minutes."""


def main(arguments: list[str] | None = None) -> int:
    parser = training_parser("python -m motioncache_helios.train", __doc__, ("transformer",))
    parser.add_argument("--clips", type=int, default=1500, help="training clips of three chunks")
    parser.add_argument(
        "--parts",
        type=Path,
        default=Path("MotionCache4SkyReels-V2/motioncache-tiny"),
        help="the SkyReels-V2 model that gives autoencoder, text encoder and, without --model, the first weights",
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Train the transformer and save the whole pipeline."""
    config, parts = replace(start(options), checkpoint_every=CHECKPOINT_EVERY), options.parts
    if not (parts / "vae" / "config.json").is_file():
        raise MotionCacheError(f"there is no autoencoder in {parts}/vae: pass --parts FOLDER, a SkyReels-V2 model")
    vae = AutoencoderKLWan.from_pretrained(parts / "vae")
    tokenizer = AutoTokenizer.from_pretrained(parts / "tokenizer")
    encoder = UMT5EncoderModel.from_pretrained(parts / "text_encoder").float()
    if options.model:
        initial = HeliosTransformer3DModel.from_pretrained(options.model / "transformer")
    else:
        initial = create_from_wan(SkyReelsV2Transformer3DModel.from_pretrained(parts / "transformer").state_dict())
    transformer = train_transformer(
        config, vae.float(), CaptionEncoder(tokenizer, encoder), clips=options.clips, initial=initial.float()
    )
    save_pipeline(
        options.runs / "motioncache-tiny", transformer=transformer, vae=vae, tokenizer=tokenizer, text_encoder=encoder
    )
    return 0


def save_pipeline(
    folder: Path,
    *,
    transformer: HeliosTransformer3DModel,
    vae: AutoencoderKLWan,
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: UMT5EncoderModel,
) -> None:
    """Save in bfloat16, in the format of the official repository."""
    pipeline = HeliosPipeline(
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]
        text_encoder=text_encoder.to(torch.bfloat16),
        transformer=transformer.to(torch.bfloat16),
        vae=vae.to(torch.bfloat16),
        scheduler=HeliosScheduler(stages=1, use_dynamic_shifting=True),
    )
    pipeline.save_pretrained(folder)
    # transformers 5 writes its internal name of the tokenizer's class; the public one loads everywhere.
    for path in (folder / "model_index.json", folder / "tokenizer" / "tokenizer_config.json"):
        path.write_text(path.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


if __name__ == "__main__":
    sys.exit(main())
