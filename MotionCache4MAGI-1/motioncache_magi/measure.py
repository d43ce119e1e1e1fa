"""Measures what MAGI-1 takes of a GPU's memory, with the sampler and the model on meta tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from transformers import T5Config, T5EncoderModel

from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError
from motioncache.forecast.budget import ForecastConfig
from motioncache.grid import TokenGrid
from motioncache.registry import resolve_preset
from motioncache_eval.measured_memory import ComputesAll, MeasuredMemory, MemorySettings, measure, size_of
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.cache.config import MagiReuseConfig
from motioncache_magi.cache.hook import MagiHook
from motioncache_magi.loading.variants import released
from motioncache_magi.memory import schedule_of
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling.guidance import Guidance, branches_of, passes_of
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step
from motioncache_magi.vae.codec import VideoCodec
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.vit import ViTVAE

TEXT_ENCODER, TRANSFORMER, AUTOENCODER = "text encoder", "transformer", "autoencoder"

_AUTOENCODER = VaeConfig(
    video_size=256, video_length=16, patch_size=8, patch_length=4, in_chans=3, z_chans=16, embed_dim=1024, depth=24,
    num_heads=16, mlp_ratio=4.0, qkv_bias=True,
)  # fmt: skip


def measure_released(name: str, settings: MemorySettings) -> MeasuredMemory:
    """The peaks of a released variant, at the steps of a video that compute the most."""
    config = _configured(released(name), settings)
    runtime = config.runtime
    with torch.device("meta"):
        transformer = VideoDiT(config.model).set_dtypes().requires_grad_(False)
        autoencoder = ViTVAE(_AUTOENCODER).to(config.model.dtype)
        text_encoder = T5EncoderModel(_t5()).eval()
    weights = {TRANSFORMER: transformer, TEXT_ENCODER: text_encoder, AUTOENCODER: autoencoder}
    on_host = config.text_device("cuda") == "cpu"
    stages = [
        measure("sampling", {TRANSFORMER: transformer}, partial(sample_steps, transformer, config, settings.preset)),
        measure("decoding", {AUTOENCODER: autoencoder}, partial(decode, autoencoder, config)),
    ]
    if not on_host:
        encode = partial(encode_prompt, text_encoder, config)
        stages.insert(0, measure("prompt", {TEXT_ENCODER: text_encoder}, encode))
    return MeasuredMemory(
        name=f"MAGI-1 {name}, {runtime.video_size_h}x{runtime.video_size_w}, {runtime.num_frames} frames",
        frames=runtime.num_frames,
        weights={part: size_of(model) for part, model in weights.items()},
        stages=tuple(stages),
        stays=(TRANSFORMER,),
        on_host=(TEXT_ENCODER,) if on_host else (),
    )


def _configured(config: MagiConfig, settings: MemorySettings) -> MagiConfig:
    if settings.base_num_frames is not None:
        raise ConfigError("base_num_frames is a setting of SkyReels-V2; the window of MAGI-1 has always 4 chunks")
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


def encode_prompt(text_encoder: T5EncoderModel, config: MagiConfig) -> None:
    """Encode a prompt of full length."""
    length = config.model.caption_max_length
    tokens = torch.zeros(1, length, dtype=torch.int64, device="meta")
    text_encoder(tokens, torch.zeros(1, 1, length, length, device="meta"))


def decode(autoencoder: ViTVAE, config: MagiConfig) -> None:
    """Decode one chunk; the video is decoded chunk by chunk."""
    runtime = config.runtime
    codec = VideoCodec(autoencoder, runtime, device="meta", offload=False)
    shape = (config.model.latent_channels, runtime.chunk_width, runtime.video_size_h // 8, runtime.video_size_w // 8)
    codec.decode_chunk(torch.zeros(shape, device="meta"))


def sample_steps(model: VideoDiT, config: MagiConfig, preset: str | None) -> None:
    """Run the steps at which a chunk enters the window, which also move its keys and values, and the largest one."""
    runtime, schedule = config.runtime, schedule_of(config)
    guidance, times = Guidance.of(config), Settings.of(config, schedule).times.tolist()
    hook = create_hook(model, config, preset)
    with opened(model, config, hook) as sampler:
        hook.engine.policy = ComputesAll(_history(hook.config, schedule))
        for step in _chosen(schedule, lambda step: len(passes_of(step, times, guidance, runtime.clean_t))):
            sampler.step(step)


@contextmanager
def opened(model: VideoDiT, config: MagiConfig, hook: MagiHook) -> Iterator[Sampler]:
    """A video of the configuration's own length, with a prompt of full length for each chunk; the hook is undone."""
    runtime, schedule = config.runtime, schedule_of(config)
    settings = Settings.of(config, schedule)
    frames, size = schedule.chunks * runtime.chunk_width, (runtime.video_size_h // 8, runtime.video_size_w // 8)
    reuse = hook.create_reuse(settings)
    sampler = hook.sampler()(
        model,
        settings,
        torch.zeros(config.model.latent_channels, frames, *size, device=model.rope.bands.device),
        prefix=None,
        captions=[_text(model, config) for _ in range(schedule.chunks)],
        null=_text(model, config),
        reuse=reuse,
    )
    grid = TokenGrid(frames=frames, height=size[0] // 2, width=size[1] // 2, chunk_frames=runtime.chunk_width)
    reuse.start(grid, schedule.total, branches_of(settings.guidance))
    yield sampler
    reuse.end()
    hook.undo()


def _chosen(schedule: WindowSchedule, size: Any) -> list[Step]:
    steps = list(schedule)
    largest = max(steps, key=lambda step: (size(step), step.index))
    first = [next(stage) for _, stage in groupby(steps, key=lambda step: step.index // schedule.stage)]
    chosen = {step.index: step for step in (*first, *steps[max(largest.index - 1, 0) : largest.index + 1])}
    return [chosen[index] for index in sorted(chosen)]


def create_hook(model: VideoDiT, config: MagiConfig, preset: str | None) -> MagiHook:
    """A hook with the policy of a preset, in a pipeline that has no other part; a plan computes everything."""
    adapter = MagiAdapter()
    policy = resolve_preset(adapter, preset, None, allow_foreign_calibration=True)
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
