"""Estimates what MAGI-1 takes of a GPU's memory, see `motioncache_eval.memory.Footprint`."""

import math
from dataclasses import replace

import torch

from motioncache_eval.memory import Footprint, activation_bytes
from motioncache_magi.loading.variants import VARIANTS
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.sampling.guidance import Guidance, branches_of
from motioncache_magi.sampling.kv_layout import KVLayout
from motioncache_magi.sampling.schedule import WindowSchedule

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
    guidance = branches_of(Guidance.of(config))
    chunk = runtime.chunk_width * (runtime.video_size_h // 16) * (runtime.video_size_w // 16)
    rows = KVLayout(schedule_of(config), guidance).slots * chunk
    computed = runtime.window_size * len(guidance) * chunk
    itemsize = model.dtype.itemsize
    return Footprint(
        name=f"{name}, {runtime.video_size_h}x{runtime.video_size_w}, {runtime.num_frames} frames",
        transformer=parameters * itemsize,
        text_encoder=TEXT_ENCODER_PARAMETERS * 4,
        autoencoder=AUTOENCODER_PARAMETERS * itemsize,
        kv_cache=2 * model.num_layers * rows * model.num_query_groups * model.kv_channels * itemsize,
        outputs=runtime.window_size * chunk * 4 * model.out_channels * 4,  # a velocity of each token, in float32
        activations=activation_bytes(
            computed, width=model.hidden_size, feed_forward=model.ffn_hidden_size, itemsize=itemsize
        ),
        transformer_stays=True,
    )


def schedule_of(config: MagiConfig) -> WindowSchedule:
    runtime = config.runtime
    frames = math.ceil(runtime.num_frames / runtime.temporal_downsample_factor)
    return WindowSchedule(
        chunks=math.ceil(frames / runtime.chunk_width),
        prefix_chunks=0,
        steps=runtime.num_steps,
        window=runtime.window_size,
        ranges=runtime.noise2clean_kvrange,
        clean_range=runtime.clean_chunk_kvrange,
        shortcut_mode=config.engine.shortcut_mode,
    )
