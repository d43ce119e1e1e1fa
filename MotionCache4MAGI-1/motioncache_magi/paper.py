"""The video of the paper's measurement of MAGI-1, with random weights."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from motioncache.engine import Engine
from motioncache.policies.none import NoCache
from motioncache_eval.measured_memory import MemorySettings
from motioncache_eval.paper import EXACT, FAST, FORECAST, SLOW, VANILLA, LayerCounts, PaperVideo, Planned, Share
from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Pack
from motioncache_magi.sampling.guidance import Pass
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


def sample_paper(method: str, device: str) -> Callable[[], object]:
    """See `SamplesPaper`."""
    config = _config()
    return sampler(with_values(create_transformer(config).to_empty(device=device)), config, method, device)


def count_paper(method: str, layers: LayerCounts) -> Callable[[], object]:
    """See `SamplesPaper`."""
    config = _config()
    config = replace(config, model=replace(config.model, num_layers=1))
    video = _open(create_transformer(config), config, method, "meta")
    _count_layers(video, layers)
    return lambda: [layers.call(video.sampler.step, step) for step in video.schedule]


def _count_layers(video: Opened, layers: LayerCounts) -> None:
    """Let the layers of a video be counted."""
    sampler: Any = video.sampler
    model, run = sampler._model, sampler._run
    run_layers, needed = model.run_layers, [False]

    def counted(tokens: Iterable[torch.Tensor], packs: Sequence[Pack]) -> list[torch.Tensor]:
        rows, segments = list(tokens), [segment for pack in packs for segment in pack.segments]
        texts = all(segment.text.keys_values for segment in segments if len(segment.text.embedded))
        key = tuple((one.rows, one.attended and one.attended.stop - one.attended.start) for one in segments)
        always = needed[0] or not texts
        return layers.run((key, always), lambda: run_layers(rows, packs), lambda: rows, always=always)

    def watched(passes: Sequence[Pass], *args: Any) -> Any:
        needed[0] = any(one.refresh for one in passes)  # its keys and values are kept
        return run(passes, *args)

    model.run_layers, sampler._run = counted, watched


def _config() -> MagiConfig:
    return configured(released("4.5B_distill"), MemorySettings(num_frames=168))


def sampler(model: VideoDiT, config: MagiConfig, method: str, device: str) -> Callable[[], torch.Tensor]:
    """Samples the latents of a video with a method's stand-in."""
    video = _open(model, config, method, device)

    def sample() -> torch.Tensor:
        video.sample(list(video.schedule))
        return video.sampler.latents

    return sample


def with_values(model: VideoDiT) -> VideoDiT:
    """Random weights."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    return model


def _open(model: VideoDiT, config: MagiConfig, method: str, device: str) -> Opened:
    """A video in which a stand-in decides."""
    preset = EXACT if method == VANILLA else method  # which is the same on MAGI-1
    video = open_video(model, config, MemorySettings(preset=preset), create_engine=lambda: Engine(NoCache()))
    if method in (SLOW, FAST):
        video.hook.engine.policy = Share(PAPER.shares[method], WARMUP, device)
    if method == FORECAST:
        video.hook.engine.policy = Planned(PAPER.shares[method], video.history)
    return video
