"""The command line that all trainings share."""

import argparse
import logging
from pathlib import Path

import torch

from motioncache_train.loop import TrainConfig


def training_parser(prog: str, doc: str | None, parts: tuple[str, ...]) -> argparse.ArgumentParser:
    """Create a parser with the options that all parts of all models have."""
    parser = argparse.ArgumentParser(prog=prog, description=doc)
    parser.add_argument("part", choices=parts)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints, logs and plots")
    parser.add_argument("--model", type=Path, help="folder of a saved model that is trained further")
    parser.add_argument("--steps", type=int, required=True, help="length of the whole run, a resumed one included")
    parser.add_argument("--peak-lr", type=float, default=2e-3, help="learning rate of Muon (matrices)")
    parser.add_argument("--adam-lr", type=float, default=2e-3, help="learning rate of AdamW (all other weights)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def start(options: argparse.Namespace) -> TrainConfig:
    """Set up logging and threads, and read from the options how long and how fast to train."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    return TrainConfig(
        folder=options.runs / options.part,
        steps=options.steps,
        peak_lr=options.peak_lr,
        adam_lr=options.adam_lr,
        seed=options.seed,
        device=options.device,
    )
