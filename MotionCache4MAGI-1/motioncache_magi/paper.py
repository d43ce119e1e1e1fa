"""The video of the paper's measurement of MAGI-1, with random weights."""

from collections.abc import Callable
from dataclasses import replace

import torch

from motioncache.engine import Engine
from motioncache.policies.none import NoCache
from motioncache_eval.measured_memory import MemorySettings
from motioncache_eval.paper import EXACT, FAST, FORECAST, SLOW, VANILLA, PaperVideo, Planned, Share
from motioncache_magi.loading.variants import released
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.weightless import Opened, configured, create_transformer, open_video

WARMUP = 4

PAPER = PaperVideo(
    title="MAGI-1 4.5B distilled, 720x720, 168 frames, 64 steps",
    layers=34,
    # All chunks take 121.5 PFLOPs without the passes of clean ones: 5 steps of 64, and the share of the other 59 that
    # the published 100 and 64 PFLOPs come to.
    shares={SLOW: 0.808, FAST: 0.487, FORECAST: 0.333},
    published={VANILLA: 1520, SLOW: 925, FAST: 733},
)
"""See `addconfig/config.yaml`; `forecast` takes a third of the iterations."""


def sample_paper(method: str, device: str, layers: int | None) -> Callable[[], object]:
    """See `SamplesPaper`."""
    config = configured(released("4.5B_distill"), MemorySettings(num_frames=168))
    if layers is not None:
        config = replace(config, model=replace(config.model, num_layers=layers))
    model = create_transformer(config)
    if device != "meta":
        model = _with_values(model.to_empty(device=device))
    preset = EXACT if method == VANILLA else method  # which is the same on MAGI-1
    video = open_video(model, config, MemorySettings(preset=preset), create_engine=lambda: Engine(NoCache()))
    _stand_in(video, method, device)
    return lambda: video.sample(list(video.schedule))


def _with_values(model: VideoDiT) -> VideoDiT:
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    return model


def _stand_in(video: Opened, method: str, device: str) -> None:
    if method in (SLOW, FAST):
        video.hook.engine.policy = Share(PAPER.shares[method], WARMUP, device)
    if method == FORECAST:
        video.hook.engine.policy = Planned(PAPER.shares[method], video.history)
