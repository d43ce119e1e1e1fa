"""Measures what MAGI-1 takes of a GPU's memory, with the sampler and the model on meta tensors."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from transformers import T5Config, T5EncoderModel

from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError
from motioncache.forecast.budget import ForecastConfig
from motioncache.grid import TokenGrid
from motioncache.registry import resolve_preset
from motioncache_eval.measured_memory import ComputesAll, MeasuredMemory, MemorySettings, Stage, measure, size_of
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.cache.config import MagiReuseConfig
from motioncache_magi.cache.hook import MagiHook
from motioncache_magi.loading.variants import released
from motioncache_magi.memory import schedule_of
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.fp8 import hold_fp8
from motioncache_magi.model.packed import Text
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling.guidance import branches_of, passes_of
from motioncache_magi.sampling.options import AUTOMATIC, MemoryOptions
from motioncache_magi.sampling.sampler import Settings
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step
from motioncache_magi.vae.codec import VideoCodec
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.vit import ViTVAE

TEXT_ENCODER, TRANSFORMER, AUTOENCODER = "text encoder", "transformer", "autoencoder"

LAYERS = 4
"""Of a transformer that is measured; all are alike, and keys and values count as those of all layers."""

_AUTOENCODER = VaeConfig(
    video_size=256, video_length=16, patch_size=8, patch_length=4, in_chans=3, z_chans=16, embed_dim=1024, depth=24,
    num_heads=16, mlp_ratio=4.0, qkv_bias=True,
)  # fmt: skip


def measure_released(name: str, settings: MemorySettings) -> MeasuredMemory:
    """The peaks of a released variant, at the steps of a video that compute the most."""
    config = _configured(released(name), settings)
    runtime = config.runtime
    with torch.device("meta"):
        transformer = _transformer(config)
        weights = {TRANSFORMER: transformer, TEXT_ENCODER: T5EncoderModel(_t5()), AUTOENCODER: _autoencoder(config)}
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
    with torch.device("meta"):
        model = _transformer(few)
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


def _transformer(config: MagiConfig) -> VideoDiT:
    """A model without values; that of an fp8 checkpoint keeps its weights so."""
    model = VideoDiT(config.model).set_dtypes().requires_grad_(False)
    return hold_fp8(model) if config.engine.fp8_quant else model


def _configured(config: MagiConfig, settings: MemorySettings) -> MagiConfig:
    if settings.base_num_frames is not None:
        raise ConfigError("base_num_frames is a setting of SkyReels-V2; the window of MAGI-1 has always 4 chunks")
    if settings.synchronous:
        raise ConfigError("synchronous is a setting of SkyReels-V2; chunks of MAGI-1 always finish one after another")
    if settings.weights is not None:
        raise ConfigError("weights: int8 is of SkyReels-V2; MAGI-1 has 4.5B_distill_quant and 24B_distill_quant in fp8")
    if settings.dtype == "float16":
        raise ConfigError("dtype: 'float16' is not allowed; allowed for MAGI-1: null, float32, bfloat16")
    runtime, model = config.runtime, config.model
    sizes = settings.filled(height=runtime.video_size_h, width=runtime.video_size_w, num_frames=runtime.num_frames)
    dtype = model.params_dtype if settings.dtype is None else f"torch.{settings.dtype}"
    runtime = replace(runtime, video_size_h=sizes.height, video_size_w=sizes.width, num_frames=sizes.num_frames)  # pyright: ignore[reportArgumentType]
    return replace(config, runtime=runtime, model=replace(model, params_dtype=dtype))


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
    runtime, schedule = config.runtime, schedule_of(config)
    settings = Settings.of(config, schedule, options)
    frames, size = schedule.chunks * runtime.chunk_width, (runtime.video_size_h // 8, runtime.video_size_w // 8)
    device = model.rope.bands.device
    hook = _hook(model, config, sizes)
    latents = torch.zeros(config.model.latent_channels, frames, *size, device=device)
    settings = hook.prepare(settings, latents, config.model.caption_max_length)
    reuse = hook.create_reuse(settings)
    sampler = hook.sampler()(
        model,
        settings,
        latents,
        prefix=None,
        captions=[_text(model, config) for _ in range(schedule.chunks)],
        null=_text(model, config),
        reuse=reuse,
    )
    hook.engine.policy = ComputesAll(_history(hook.config, schedule))
    grid = TokenGrid(frames=frames, height=size[0] // 2, width=size[1] // 2, chunk_frames=runtime.chunk_width)
    reuse.start(grid, schedule.total, branches_of(settings.guidance))
    times = settings.times.tolist()
    for step in _chosen(schedule, lambda step: len(passes_of(step, times, settings.guidance, runtime.clean_t))):
        sampler.step(step)
    reuse.end()
    hook.undo()


def _chosen(schedule: WindowSchedule, size: Any) -> list[Step]:
    steps = list(schedule)
    largest = max(steps, key=lambda step: (size(step), -step.index))
    filling = steps[: (schedule.window + 2) * schedule.stage : schedule.stage]
    chosen = {step.index: step for step in (*filling, *steps[max(largest.index - 1, 0) : largest.index + 1])}
    return [chosen[index] for index in sorted(chosen)]


def _hook(model: VideoDiT, config: MagiConfig, sizes: MemorySettings) -> MagiHook:
    adapter = MagiAdapter()
    policy = resolve_preset(
        adapter,
        sizes.preset,
        None,
        allow_foreign_calibration=True,
        kv=sizes.kv,
        split_guidance=sizes.split_guidance,
    )
    if isinstance(policy, ForecastConfig):
        policy = replace(policy, target_speedup=1.0, calibration=None)
    pipeline = MagiPipeline(model, None, None, config, device="meta")  # pyright: ignore[reportArgumentType]
    return MagiHook(pipeline, policy, presets=adapter.presets())


def _history(policy: PolicyConfig, schedule: WindowSchedule) -> int:
    if isinstance(policy, ForecastConfig):
        return policy.order_at(None)
    return policy.create_policy(schedule).history if isinstance(policy, MagiReuseConfig) else 0


def _text(model: VideoDiT, config: MagiConfig) -> Text:
    """A prompt of full length, embedded."""
    caption = torch.zeros(
        config.model.caption_max_length, config.model.caption_channels, device=model.rope.bands.device
    )
    return Text(model.embed_text(caption))
