"""Command line of the training: `python -m motioncache_skyreels.train vae|transformer --help`."""

import argparse
import logging
import sys
from pathlib import Path

import torch

from motioncache_skyreels.train.loop import TrainConfig


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m motioncache_skyreels.train", description=__doc__)
    parser.add_argument("part", choices=("vae", "transformer"))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints, logs and plots")
    parser.add_argument("--steps", type=int, required=True, help="length of the whole run, a resumed one included")
    parser.add_argument("--peak-lr", type=float, default=2e-3, help="learning rate of Muon (matrices)")
    parser.add_argument("--adam-lr", type=float, default=2e-3, help="learning rate of AdamW (all other weights)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    config = TrainConfig(
        folder=options.runs / options.part,
        steps=options.steps,
        peak_lr=options.peak_lr,
        adam_lr=options.adam_lr,
        seed=options.seed,
        device=options.device,
    )
    if options.part == "vae":
        from motioncache_skyreels.train.vae import train_vae

        train_vae(config).save_pretrained(options.runs / "motioncache-tiny" / "vae")
    return 0


if __name__ == "__main__":
    sys.exit(main())
