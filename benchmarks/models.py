"""The models that the benchmark scripts measure, and what only their packages know of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from motioncache_eval.bench.model import BenchModel, find_loader
from motioncache_magi.train.vae import reconstruct as reconstruct_magi
from motioncache_skyreels.train.vae import reconstruct as reconstruct_skyreels

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of the repository.

    Attributes:
        job: the demo's YAML file.
        reconstruct: encodes and decodes clips of `clip_frames` frames with the autoencoder.
        steps: the numbers of denoise steps that `model.py` samples with, the published one first.
    """

    name: str
    job: Path
    reconstruct: Callable[..., torch.Tensor]
    clip_frames: int
    steps: tuple[int, int]

    def load(self, overrides: list[str]) -> BenchModel:
        """The pipeline of its demo, warmed up."""
        bench = find_loader(self.name)(self.job, overrides)
        bench.warm_up(bench.job)
        return bench


MODELS = {
    model.name: model
    for model in (
        Model(
            name="skyreels-v2",
            job=ROOT / "addconfig" / "config.yaml",
            reconstruct=reconstruct_skyreels,
            clip_frames=97,
            steps=(50, 30),
        ),
        Model(
            name="magi-1",
            job=ROOT / "MotionCache4MAGI-1" / "addconfig" / "job.yaml",
            reconstruct=reconstruct_magi,
            clip_frames=96,
            steps=(64, 32),
        ),
    )
}
