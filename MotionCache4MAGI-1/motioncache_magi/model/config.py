"""The official JSON configuration: three sections, in which no field may be missing or unknown."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from motioncache.errors import ConfigError

Section = TypeVar("Section")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """`model_config`: the shape of the DiT."""

    model_name: str
    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    num_query_groups: int
    kv_channels: int
    layernorm_epsilon: float
    apply_layernorm_1p: bool
    x_rescale_factor: float
    half_channel_vae: bool
    params_dtype: str
    patch_size: int
    t_patch_size: int
    in_channels: int
    out_channels: int
    cond_hidden_ratio: float
    caption_channels: int
    caption_max_length: int
    xattn_cond_hidden_ratio: float
    cond_gating_ratio: float
    gated_linear_unit: bool

    @property
    def condition_size(self) -> int:
        return int(self.hidden_size * self.cond_hidden_ratio)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents; the input of a model with `half_channel_vae` holds them twice."""
        return self.in_channels // 2 if self.half_channel_vae else self.in_channels

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.params_dtype.removeprefix("torch."))


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """`runtime_config`: the video, its schedule and its guidance; the pipeline's arguments take precedence."""

    cfg_number: int
    cfg_t_range: tuple[float, ...]
    prev_chunk_scales: tuple[float, ...]
    text_scales: tuple[float, ...]
    noise2clean_kvrange: tuple[int, ...]
    clean_chunk_kvrange: int
    clean_t: float
    seed: int
    num_frames: int
    video_size_h: int
    video_size_w: int
    num_steps: int
    window_size: int
    fps: int
    chunk_width: int
    t5_pretrained: str
    t5_device: str
    vae_pretrained: str
    scale_factor: float
    temporal_downsample_factor: int
    load: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """`engine_config`: most fields say how the official code distributes its work; they are read but not used."""

    distributed_backend: str
    distributed_timeout_minutes: int
    pp_size: int
    cp_size: int
    cp_strategy: str
    ulysses_overlap_degree: int
    fp8_quant: bool
    distill_nearly_clean_chunk_threshold: float
    shortcut_mode: str
    distill: bool
    kv_offload: bool
    enable_cuda_graph: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiConfig:
    """The three sections of the file."""

    model: ModelConfig
    runtime: RuntimeConfig
    engine: EngineConfig

    @classmethod
    def from_file(cls, path: Path) -> "MagiConfig":
        try:
            return cls.from_dict(json.loads(path.read_text()), where=str(path))
        except (OSError, json.JSONDecodeError) as error:
            raise ConfigError(f"the configuration {path} cannot be read: {error}") from None

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str) -> "MagiConfig":
        """Check the content of the file and convert it.

        Args:
            where: name of the file, for error messages.

        Raises:
            ConfigError: if a field is missing or unknown, or has a value that this code cannot run.
        """
        sections = {"model_config": ModelConfig, "runtime_config": RuntimeConfig, "engine_config": EngineConfig}
        _check_names(values, set(sections), where)
        model, runtime, engine = (_section(cls, values[name], f"{where}: {name}") for name, cls in sections.items())
        config = cls(model=model, runtime=runtime, engine=engine)
        config._check(where)
        return config

    def _check(self, where: str) -> None:
        model, runtime = self.model, self.runtime
        if model.model_name != "videodit_ardf" or not model.apply_layernorm_1p:
            raise ConfigError(f"{where}: only models named videodit_ardf with apply_layernorm_1p are known")
        if (model.patch_size, model.t_patch_size) != (2, 1):
            raise ConfigError(f"{where}: patch_size must be 2 and t_patch_size 1")
        if (model.xattn_cond_hidden_ratio, model.cond_gating_ratio) != (1.0, 1.0):
            raise ConfigError(f"{where}: xattn_cond_hidden_ratio and cond_gating_ratio must be 1")
        if not hasattr(torch, model.params_dtype.removeprefix("torch.")):
            raise ConfigError(f"{where}: params_dtype {model.params_dtype!r} is no dtype of torch")
        expected = 1 if self.engine.distill or self.engine.fp8_quant else 3
        if runtime.cfg_number not in (1, 3) or (expected == 1 and runtime.cfg_number != 1):
            raise ConfigError(f"{where}: cfg_number must be {expected} for this model, not {runtime.cfg_number}")


def _section(cls: type[Section], values: Any, where: str) -> Section:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} has to be a mapping")
    _check_names(values, {field.name for field in fields(cls)}, where)  # pyright: ignore[reportArgumentType]
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _check_names(values: dict[str, Any], expected: set[str], where: str) -> None:
    missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
    problems: list[str] = []
    if missing:
        problems.append(f"lacks {', '.join(missing)}")
    if unknown:
        problems.append(f"has unknown {', '.join(unknown)}")
    if problems:
        raise ConfigError(f"{where} {' and '.join(problems)}; take the official file of the model as a pattern")
