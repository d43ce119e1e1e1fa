"""Measures what MAGI-1 takes of a GPU's memory, with the sampler and the model on meta tensors."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from transformers import T5Config, T5EncoderModel

from motioncache_eval.measured_memory import ComputesAll, MeasuredMemory, MemorySettings, Stage, measure, size_of
from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.sampling.guidance import passes_of
from motioncache_magi.sampling.options import AUTOMATIC, MemoryOptions
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step
from motioncache_magi.vae.codec import VideoCodec
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.vit import ViTVAE
from motioncache_magi.weightless import configured, create_transformer, open_video

TEXT_ENCODER, TRANSFORMER, AUTOENCODER = "text encoder", "transformer", "autoencoder"

LAYERS = 4
"""Of a transformer that is measured; all are alike, and keys and values count as those of all layers."""

_AUTOENCODER = VaeConfig(
    video_size=256, video_length=16, patch_size=8, patch_length=4, in_chans=3, z_chans=16, embed_dim=1024, depth=24,
    num_heads=16, mlp_ratio=4.0, qkv_bias=True,
)  # fmt: skip


def measure_released(name: str, settings: MemorySettings) -> MeasuredMemory:
    """The peaks of a released variant, at the steps of a video that compute the most."""
    config = configured(released(name), settings)
    runtime = config.runtime
    with torch.device("meta"):
        text_encoder, autoencoder = T5EncoderModel(_t5()), _autoencoder(config)
    weights = {TRANSFORMER: create_transformer(config), TEXT_ENCODER: text_encoder, AUTOENCODER: autoencoder}
    size = (runtime.video_size_h, runtime.video_size_w)
    stages = [_sampling_stage(config, settings), _decoding_stage(released(name), config.model.params_dtype, size)]
    if config.text_device("cuda") != "cpu":
        stages.insert(0, _prompt_stage(config.model.caption_max_length))
    return MeasuredMemory(
        name=f"MAGI-1 {name}, {runtime.video_size_h}x{runtime.video_size_w}, {runtime.num_frames} frames",
        frames=runtime.num_frames,
        weights={part: size_of(model) for part, model in weights.items()},
        stages=tuple(stages),
        stays=(TRANSFORMER,),
        on_host=(TEXT_ENCODER,),
    )


def _sampling_stage(config: MagiConfig, settings: MemorySettings) -> Stage:
    layers = config.model.num_layers
    few = replace(config, model=replace(config.model, num_layers=LAYERS))
    model = create_transformer(few)
    return measure(
        "sampling", {TRANSFORMER: model}, partial(sample_steps, model, few, settings), layers=layers / LAYERS
    )


def _autoencoder(config: MagiConfig) -> ViTVAE:
    return ViTVAE(_AUTOENCODER).to(config.model.dtype)


@cache
def _decoding_stage(config: MagiConfig, dtype: str, size: tuple[int, int]) -> Stage:
    """The same for all lengths, presets and variants of a size."""
    runtime = replace(config.runtime, video_size_h=size[0], video_size_w=size[1])
    config = replace(config, runtime=runtime, model=replace(config.model, params_dtype=dtype))
    with torch.device("meta"):
        autoencoder = _autoencoder(config)
    return measure("decoding", {AUTOENCODER: autoencoder}, partial(decode, autoencoder, config))


@cache
def _prompt_stage(length: int) -> Stage:
    with torch.device("meta"):
        text_encoder = T5EncoderModel(_t5()).eval()
    return measure("prompt", {TEXT_ENCODER: text_encoder}, partial(encode_prompt, text_encoder, length))


def _t5() -> T5Config:
    return T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip


def encode_prompt(text_encoder: T5EncoderModel, length: int) -> None:
    """Encode a prompt of full length."""
    tokens = torch.zeros(1, length, dtype=torch.int64, device="meta")
    text_encoder(tokens, torch.zeros(1, 1, length, length, device="meta"))


def decode(autoencoder: ViTVAE, config: MagiConfig) -> None:
    """Decode one chunk; the video is decoded chunk by chunk."""
    runtime = config.runtime
    codec = VideoCodec(autoencoder, runtime, device="meta", offload=False)
    shape = (config.model.latent_channels, runtime.chunk_width, runtime.video_size_h // 8, runtime.video_size_w // 8)
    codec.decode_chunk(torch.zeros(shape, device="meta"))


def sample_steps(
    model: VideoDiT, config: MagiConfig, sizes: MemorySettings, options: MemoryOptions = AUTOMATIC
) -> None:
    """Run steps until the window is full and slides, and the largest one: after that, nothing changes any more."""
    video = open_video(model, config, sizes, options)
    video.hook.engine.policy = ComputesAll(video.history)
    times, guidance = video.settings.times.tolist(), video.settings.guidance
    video.sample(_chosen(video.schedule, lambda step: len(passes_of(step, times, guidance, video.settings.clean_time))))
    video.close()


def _chosen(schedule: WindowSchedule, size: Any) -> list[Step]:
    steps = list(schedule)
    largest = max(steps, key=lambda step: (size(step), -step.index))
    filling = steps[: (schedule.window + 2) * schedule.stage : schedule.stage]
    chosen = {step.index: step for step in (*filling, *steps[max(largest.index - 1, 0) : largest.index + 1])}
    return [chosen[index] for index in sorted(chosen)]
