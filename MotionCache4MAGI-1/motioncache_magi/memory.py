"""Estimates what MAGI-1 takes of a GPU's memory, see `motioncache_eval.memory.Footprint`."""

import math
from dataclasses import replace

import torch

from motioncache_eval.memory import Footprint
from motioncache_magi.loading.variants import VARIANTS
from motioncache_magi.model.config import MagiConfig, ModelConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.sampling.guidance import Guidance, branches_of, passes_of
from motioncache_magi.sampling.kv_layout import KVLayout
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule

TEXT_ENCODER_PARAMETERS = 4_762_310_656
"""Of the encoder of google/t5-v1_1-xxl, which stays in float32."""

AUTOENCODER_PARAMETERS = 613_755_239


def released_footprints() -> list[Footprint]:
    """The released variants, in their own size and dtype, for videos of several lengths."""
    return [
        memory(replace(config, runtime=replace(config.runtime, num_frames=frames)), f"MAGI-1 {name}")
        for name, config in VARIANTS.items()
        for frames in (96, 240)
    ]


def memory(config: MagiConfig, name: str) -> Footprint:
    """The footprint of a video of the size, the length and the dtype that a configuration has."""
    model, runtime = config.model, config.runtime
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in VideoDiT(model).parameters())
    schedule, guidance = schedule_of(config), Guidance.of(config)
    chunk = runtime.chunk_width * (runtime.video_size_h // 16) * (runtime.video_size_w // 16)
    rows = KVLayout(schedule, branches_of(guidance)).slots * chunk
    itemsize, groups = model.dtype.itemsize, model.num_query_groups * model.kv_channels
    on_host = config.text_device("cuda") == "cpu"
    computed, embedded = (chunk * most for most in _most(config, schedule, guidance))
    return Footprint(
        name=f"{name}, {runtime.video_size_h}x{runtime.video_size_w}, {runtime.num_frames} frames",
        transformer=parameters * itemsize,
        text_encoder=0 if on_host else TEXT_ENCODER_PARAMETERS * 4,
        autoencoder=AUTOENCODER_PARAMETERS * itemsize,
        kv_cache=2 * model.num_layers * rows * groups * itemsize,
        text_kv=2 * model.num_layers * (schedule.chunks + 1) * model.caption_max_length * groups * itemsize,
        outputs=min(runtime.window_size, schedule.chunks) * chunk * 16 * model.latent_channels,  # in float32
        activations=(computed * _values_per_row(model) + embedded * model.hidden_size) * itemsize,
        transformer_stays=True,
    )


def _most(config: MagiConfig, schedule: WindowSchedule, guidance: Guidance) -> tuple[int, int]:
    """The most chunks that a step computes, counted once for each branch, and once."""
    times = time_schedule(schedule.steps, shortcut_mode=schedule.shortcut_mode).tolist()
    steps = list(schedule)
    passes = (len(passes_of(step, times, guidance, config.runtime.clean_t)) for step in steps)
    return max(passes), max(len(step.chunks) for step in steps)


def _values_per_row(model: ModelConfig) -> int:
    """What is alive of a row at the peak, which lies in attention or in the feed-forward."""
    width, keys = model.hidden_size, model.num_query_groups * model.kv_channels
    wide = (4 if model.gated_linear_unit else 2) * model.ffn_hidden_size
    return max(15 * width + 4 * keys, wide + 11 * width // 2)


def schedule_of(config: MagiConfig) -> WindowSchedule:
    """The schedule of a video of the configuration's own length, without given frames."""
    runtime = config.runtime
    frames = math.ceil(runtime.num_frames / runtime.temporal_downsample_factor)
    return WindowSchedule.of(config, chunks=math.ceil(frames / runtime.chunk_width))
