"""Estimates what MAGI-1 takes of a GPU's memory, see `motioncache_eval.memory.Footprint`."""

import math
from dataclasses import replace

import torch

from motioncache.config import KVStorage
from motioncache_eval.memory import Footprint
from motioncache_magi.loading.variants import VARIANTS
from motioncache_magi.model.config import MagiConfig, ModelConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.fp8 import fp8_layers, hold_fp8
from motioncache_magi.sampling.guidance import Guidance, passes_of
from motioncache_magi.sampling.kv_layout import KVLayout
from motioncache_magi.sampling.options import AUTOMATIC
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule
from motioncache_magi.sampling.stores import kept_branches

TEXT_ENCODER_BYTES = 19_622_000_000
"""Of the encoder of google/t5-v1_1-xxl in float32, and of a prompt of 800 tokens in it; measured."""

AUTOENCODER_PARAMETERS = 613_755_239


def released_footprints() -> list[Footprint]:
    """The released variants, in their own size and dtype, for videos of several lengths."""
    return [
        memory(replace(config, runtime=replace(config.runtime, num_frames=frames)), f"MAGI-1 {name}")
        for name, config in VARIANTS.items()
        for frames in (96, 240)
    ]


def memory(
    config: MagiConfig, name: str, *, kv: KVStorage = KVStorage.model, keeps_active: bool = True, keep_fp8: bool = False
) -> Footprint:
    """The footprint of a video of the size, the length and the dtype that a configuration has.

    Args:
        kv, keeps_active: how keys and values are kept, and whether those of chunks that denoise are, see `Reuse`.
        keep_fp8: whether the weights of an fp8 checkpoint stay so.
    """
    model, runtime = config.model, config.runtime
    with torch.device("meta"):
        transformer = VideoDiT(model)
        weights = sum(one.numel() for one in transformer.parameters()) * model.dtype.itemsize
        if keep_fp8:
            fp8 = fp8_layers(hold_fp8(transformer)).values()
            weights -= sum(layer.weight.numel() for layer in fp8) * (model.dtype.itemsize - 1)
    schedule, guidance = schedule_of(config), Guidance.of(config)
    chunk = runtime.chunk_width * (runtime.video_size_h // 16) * (runtime.video_size_w // 16)
    itemsize, groups = model.dtype.itemsize, model.num_query_groups * model.kv_channels
    slots = KVLayout(schedule, kept_branches(guidance, keeps_active=keeps_active)).slots
    passes, embedded = _most(config, schedule, guidance)
    slides = schedule.chunks > runtime.window_size
    texts = min(runtime.window_size, schedule.chunks) + (
        slides or not guidance.distilled
    )  # the null text of clean chunks
    rows = max(chunk, min(passes * chunk, AUTOMATIC.most_rows(chunk)))
    return Footprint(
        name=f"{name}, {runtime.video_size_h}x{runtime.video_size_w}, {runtime.num_frames} frames",
        transformer=weights,
        text_encoder=0,
        autoencoder=AUTOENCODER_PARAMETERS * itemsize,
        kv_cache=_kept_keys(config, slots, kv, keeps_active) * 2 * chunk * groups * itemsize,
        text_kv=2 * model.num_layers * texts * model.caption_max_length * groups * itemsize,
        outputs=min(runtime.window_size, schedule.chunks) * chunk * 16 * model.latent_channels,  # in float32
        activations=(rows * _values_per_row(model) + (passes + embedded) * chunk * model.hidden_size) * itemsize,
        encoding=0 if config.text_device("cuda") == "cpu" else TEXT_ENCODER_BYTES,
        transformer_stays=True,
    )


def _kept_keys(config: MagiConfig, slots: int, kv: KVStorage, keeps_active: bool) -> int:
    """Chunks of a layer whose keys and values are on the GPU, in the model's dtype."""
    layers, itemsize = config.model.num_layers, config.model.dtype.itemsize
    if kv is KVStorage.model and keeps_active:
        return layers * slots
    kept = slots if keeps_active else min(schedule_of(config).chunks - 1, _clean_seen(config))
    if kv is KVStorage.host:
        return slots + 2 * kept  # the layer that is computed, as it is and as it came over, and the next one
    share = 1.0 if kv is KVStorage.model else (1 + itemsize / config.model.kv_channels) / itemsize
    return slots + math.ceil(layers * kept * share)


def _clean_seen(config: MagiConfig) -> int:
    """Clean chunks that a chunk sees at most."""
    schedule = schedule_of(config)
    steps = list(schedule)
    return max(step.window.start - min(first for first, _ in step.ranges) for step in steps)


def _most(config: MagiConfig, schedule: WindowSchedule, guidance: Guidance) -> tuple[int, int]:
    """The most chunks that a step computes, counted once for each branch, and once."""
    times = time_schedule(schedule.steps, shortcut_mode=schedule.shortcut_mode).tolist()
    steps = list(schedule)
    passes = (len(passes_of(step, times, guidance, config.runtime.clean_t)) for step in steps)
    return max(passes), max(len(step.chunks) for step in steps)


def _values_per_row(model: ModelConfig) -> int:
    """What is alive of a row at the peak, which lies in the feed-forward."""
    return (4 if model.gated_linear_unit else 2) * model.ffn_hidden_size + 3 * model.hidden_size


def schedule_of(config: MagiConfig) -> WindowSchedule:
    """The schedule of a video of the configuration's own length, without given frames."""
    runtime = config.runtime
    frames = math.ceil(runtime.num_frames / runtime.temporal_downsample_factor)
    return WindowSchedule.of(config, chunks=math.ceil(frames / runtime.chunk_width))
