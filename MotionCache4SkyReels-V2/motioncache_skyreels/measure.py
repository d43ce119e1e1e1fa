"""Measures what SkyReels-V2 takes of a GPU's memory, with diffusers' own pipeline on meta tensors."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)
from torch import nn
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import UMT5Config, UMT5EncoderModel

from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.distance import DistanceConfig
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache.registry import resolve_preset
from motioncache_eval.absent import absent_ranks
from motioncache_eval.measured_memory import ComputesAll, MeasuredMemory, MemorySettings, Stage, measure, size_of
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.hook import SkyReelsHook
from motioncache_skyreels.memory import RELEASED, TEXT_LENGTH
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.parallel_hook import ParallelHook, ParallelOpener
from motioncache_skyreels.schedule import Matrices, Schedule
from motioncache_skyreels.window import BRANCHES, Window

TEXT_ENCODER, TRANSFORMER, AUTOENCODER = "text encoder", "transformer", "autoencoder"

CHUNK_FRAMES = 5

LAYERS = 2
"""Of a transformer that is measured; all are alike, and keys and values count as those of all layers."""

STEPS = 3
"""Denoise steps that a chunk takes at least: then both CFG branches run together, and two outputs of each are kept."""


def measure_released(name: str, settings: MemorySettings) -> MeasuredMemory:
    """The peaks of a released model, with guidance, while every chunk of a window is computed.

    Raises:
        ConfigError: if the frames of a window do not divide into chunks.
    """
    sizes, (height, width) = RELEASED[name]
    settings = settings.filled(height=height, width=width, num_frames=97, base_num_frames=97, dtype="bfloat16")
    frames = min(settings.num_frames, settings.base_num_frames)
    check_window(frames)
    dtype: torch.dtype = getattr(torch, settings.dtype)
    transformer, text_encoder = create_transformer(sizes, dtype), create_text_encoder(dtype)
    autoencoder = create_autoencoder()
    weights = {TRANSFORMER: transformer, TEXT_ENCODER: text_encoder, AUTOENCODER: autoencoder}
    few = create_transformer({**sizes, "num_layers": LAYERS}, dtype)
    if settings.weights == "int8":
        quantise_layers(transformer)
        quantise_layers(few)
    sample, layers = partial(sample_window, few, autoencoder, settings), sizes["num_layers"] / LAYERS
    return MeasuredMemory(
        name=f"SkyReels-V2 {name}, {settings.height}x{settings.width}, window of {frames} frames",
        frames=frames,
        weights={part: size_of(model) for part, model in weights.items()},
        stages=(
            _prompt_stage(dtype),
            measure("sampling", {TRANSFORMER: few}, sample, layers=layers),
            _decoding_stage(settings.num_frames, settings.height, settings.width),
        ),
    )


@cache
def _prompt_stage(dtype: torch.dtype) -> Stage:
    text_encoder = create_text_encoder(dtype)
    return measure("prompt", {TEXT_ENCODER: text_encoder}, partial(encode, text_encoder))


@cache
def _decoding_stage(frames: int, height: int, width: int) -> Stage:
    autoencoder = create_autoencoder()
    return measure("decoding", {AUTOENCODER: autoencoder}, partial(decode, autoencoder, frames, height, width))


def check_window(frames: int) -> None:
    """Refuse a window that does not divide into chunks."""
    if frames % (4 * CHUNK_FRAMES) != 4 * CHUNK_FRAMES - 3:
        allowed = [4 * CHUNK_FRAMES * chunks - 3 for chunks in range(1, 7)]
        raise ConfigError(
            f"a window of {frames} frames does not divide into chunks of {CHUNK_FRAMES} latent frames: pass "
            f"base_num_frames (or num_frames) such as {', '.join(map(str, allowed))}"
        )


def chunks_of(frames: int) -> int:
    """Chunks of a window; with one denoise step more, all of them keep two outputs before the first one finishes."""
    return ((frames - 1) // 4 + 1) // CHUNK_FRAMES


def create_transformer(sizes: dict[str, Any], dtype: torch.dtype) -> SkyReelsV2Transformer3DModel:
    """A transformer without memory, in the dtypes that `from_pretrained` gives its parts."""
    with torch.device("meta"):
        transformer = _Transformer(**{"text_dim": 4096, "freq_dim": 256, "inject_sample_info": False, **sizes})
    in_float32 = tuple(transformer._keep_in_fp32_modules or ())
    for name, parameter in transformer.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if _is_one_of(name, in_float32) else dtype)
    return transformer.requires_grad_(False)


def _is_one_of(name: str, modules: Sequence[str]) -> bool:
    return any(part in modules for part in name.split("."))


class Int8Linear(nn.Module):
    """A linear layer with weights in int8 and a scale for each row, which is brought into its dtype to be applied."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        shape, device = layer.weight.shape, layer.weight.device
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.int8, device=device), requires_grad=False)
        self.scale = nn.Parameter(layer.weight.new_ones(shape[0], 1), requires_grad=False)
        self.bias = layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(self.scale.dtype) * self.scale, self.bias)


def quantise_layers(transformer: nn.Module) -> None:
    """Put int8 in place of the weights of the blocks' linear layers."""
    for name, layer in list(transformer.named_modules()):
        if isinstance(layer, nn.Linear) and name.startswith("blocks."):
            parent, _, last = name.rpartition(".")
            setattr(transformer.get_submodule(parent), last, Int8Linear(layer))


def create_text_encoder(dtype: torch.dtype) -> UMT5EncoderModel:
    """google/umt5-xxl without memory."""
    config = UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        return UMT5EncoderModel(config).to(dtype).eval()


def create_autoencoder() -> AutoencoderKLWan:
    """Wan2.1's autoencoder without memory."""
    with torch.device("meta"):
        return AutoencoderKLWan()


def encode(text_encoder: UMT5EncoderModel) -> None:
    """Encode a prompt of full length."""
    tokens = torch.zeros(1, TEXT_LENGTH, dtype=torch.int64, device="meta")
    mask = torch.zeros(1, 1, TEXT_LENGTH, TEXT_LENGTH, dtype=text_encoder.dtype, device="meta")
    text_encoder(tokens, mask)


def sample_window(transformer: SkyReelsV2Transformer3DModel, vae: AutoencoderKLWan, settings: MemorySettings) -> None:
    """Call the pipeline with the cache on, for one window."""
    pipeline = host_pipeline(transformer, vae)
    adapter = SkyReelsAdapter()
    policy = resolve_preset(
        adapter,
        settings.preset,
        allow_foreign_calibration=True,
        kv=settings.kv,
        split_guidance=settings.split_guidance,
    )
    hook = _hook(pipeline, policy, adapter.presets(), settings)
    text = torch.zeros(1, TEXT_LENGTH, transformer.config.text_dim, dtype=transformer.dtype)
    frames = min(settings.num_frames or 0, settings.base_num_frames or 0)
    try:
        pipeline(
            None,  # pyright: ignore[reportArgumentType]
            prompt_embeds=text,
            negative_prompt_embeds=text.clone(),
            height=settings.height,
            width=settings.width,
            num_frames=frames,
            base_num_frames=frames,
            ar_step=0 if settings.synchronous else 1,
            causal_block_size=CHUNK_FRAMES,
            num_inference_steps=max(STEPS, 0 if settings.synchronous else chunks_of(frames) + 1),
            output_type="latent",
        )
    finally:
        hook.undo()


def _hook(pipeline: Any, policy: PolicyConfig, presets: Path, settings: MemorySettings) -> SkyReelsHook:
    """The hook of the only process, or of the first of several."""
    if settings.gpus == 1:
        return SkyReelsHook(pipeline, _Opener(pipeline, policy, presets))
    heads = pipeline.transformer.config.num_attention_heads
    ranks = absent_ranks(settings.divided, settings.gpus, branches=len(BRANCHES), heads=heads)
    return ParallelHook(pipeline, _ParallelOpener(pipeline, policy, presets, ranks=ranks))


def host_pipeline(transformer: SkyReelsV2Transformer3DModel, vae: AutoencoderKLWan) -> Any:
    """A pipeline that samples on the host, but for what its transformer does."""
    pipeline = _Pipeline(tokenizer=None, text_encoder=None, transformer=transformer, vae=vae, scheduler=_scheduler())  # pyright: ignore[reportArgumentType]
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)


def decode(autoencoder: AutoencoderKLWan, frames: int, height: int, width: int) -> None:
    """Decode the latents of a video."""
    autoencoder.decode(torch.zeros(1, 16, (frames - 1) // 4 + 1, height // 8, width // 8, device="meta"))


class _Transformer(SkyReelsV2Transformer3DModel):
    """Runs where its weights are, in a pipeline whose latents are on the host, since schedules need their values."""

    def __call__(self, **call: Any) -> Any:
        if not hasattr(self, "_moved"):
            self._moved = WeakTensorKeyDictionary()
        for name in ("hidden_states", "timestep", "encoder_hidden_states"):
            tensor = call[name]
            if tensor not in self._moved:
                self._moved[tensor] = tensor.to(self.device)
            call[name] = self._moved[tensor]
        (velocity,) = super().__call__(**call)
        return (torch.zeros(velocity.shape, dtype=velocity.dtype),)


class _Pipeline(SkyReelsV2DiffusionForcingPipeline):
    """Samples on the host, but for what its transformer does."""

    @property
    def _execution_device(self) -> torch.device:
        return torch.device("cpu")


class WeightlessOpener(WindowOpener):
    """Opens windows of a model without weights, for which no polynomial was fitted and no velocity measured."""

    def __init__(self, pipeline: Any, config: PolicyConfig, presets: Path, **options: Any) -> None:
        if isinstance(config, DistanceConfig):
            config = replace(config, coefficients=config.coefficients or (0.0,))
        if isinstance(config, ForecastConfig):
            config = replace(config, target_speedup=1.0, calibration=None)
        super().__init__(pipeline, config, presets, **options)


class _Opener(WeightlessOpener):
    """Opens windows in which everything is computed, whatever the policy."""

    def open(self, *args: Any, **kwargs: Any) -> Window:
        window = super().open(*args, **kwargs)
        config = self.config
        history = config.order_at(None) if isinstance(config, ForecastConfig) else self.engine.policy.history
        by_token = isinstance(config, MotionCacheConfig) and config.chunk_phase_updates is not None
        self.engine.policy = ComputesAll(history, by_token=by_token)
        return window

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        return Schedule(matrices, chunk_frames=chunk_frames)


class _ParallelOpener(_Opener, ParallelOpener):
    """The same in the first of several processes."""
