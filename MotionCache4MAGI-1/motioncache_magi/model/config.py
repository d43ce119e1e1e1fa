"""The official JSON configuration: three sections, in which no field may be missing or unknown."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from motioncache.checkpoints import is_number, is_whole, read_mapping, require_value
from motioncache.errors import ConfigError
from motioncache.field_types import shown

Section = TypeVar("Section")

SHORTCUT_MODES = ("8,16,16", "16,16,8")
"""Values of `shortcut_mode`: how 12 denoise steps divide each quarter of the time."""

_T5_DEVICES = re.compile(r"cpu|cuda(:\d+)?")

DTYPES = ("torch.float32", "torch.float16", "torch.bfloat16")
"""Values of `params_dtype`; the prefix may be left out."""


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
    """`runtime_config`: the video, its schedule and its guidance; the pipeline's arguments take precedence.

    `seed` draws the noise of a call that brings no generator. Prompts are encoded on `t5_device`; `cuda` is
    the pipeline's device, and a pipeline on the CPU encodes them there. The paths `load`, `t5_pretrained` and
    `vae_pretrained` are not read: the parts of the folder that the pipeline is loaded from are.
    """

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
    """`engine_config`: quantisation, distillation, and how the official code distributes its work.

    `fp8_quant` says that the weights are those of an fp8 checkpoint. `distill`, `distill_nearly_clean_chunk_threshold`
    and `shortcut_mode` say how a distilled model is sampled. `distributed_backend`, `distributed_timeout_minutes`,
    `pp_size`, `cp_size`, `cp_strategy` and `ulysses_overlap_degree` split the work among GPUs, and `kv_offload` keeps
    keys and values in main memory: no frame depends on them. `parallel=` and `kv=host` do that here. Their values are
    checked, so that none of them is taken for something else.
    """

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

    def text_device(self, device: str) -> str:
        """The device that prompts are encoded on, where the model runs on `device`."""
        wanted = self.runtime.t5_device
        return device if wanted == "cuda" or (device == "cpu" and wanted != "cpu") else wanted

    @classmethod
    def from_file(cls, path: Path) -> "MagiConfig":
        return cls.from_dict(read_mapping(path), where=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str) -> "MagiConfig":
        """Check the content of the file and convert it.

        Args:
            where: name of the file, for error messages.

        Raises:
            ConfigError: if a field is missing or unknown, has the wrong type, or a value that this code cannot run.
        """
        sections = {"model_config": ModelConfig, "runtime_config": RuntimeConfig, "engine_config": EngineConfig}
        _check_names(values, set(sections), where)
        model, runtime, engine = (_section(cls, values[name], f"{where}: {name}") for name, cls in sections.items())
        config = cls(model=model, runtime=runtime, engine=engine)
        config._check(where)
        return config

    def _check(self, where: str) -> None:
        self._check_model(f"{where}: model_config")
        self._check_runtime(f"{where}: runtime_config")
        self._check_engine(f"{where}: engine_config")

    def _check_model(self, where: str) -> None:
        model = self.model
        fixed = {"model_name": "videodit_ardf", "apply_layernorm_1p": True, "patch_size": 2, "t_patch_size": 1}
        fixed |= {"xattn_cond_hidden_ratio": 1, "cond_gating_ratio": 1, "out_channels": model.in_channels}
        for name, value in fixed.items():
            require_value(f"{where}: {name}", getattr(model, name), getattr(model, name) == value, repr(value))
        conditions = {
            "params_dtype": (
                f"torch.{model.params_dtype.removeprefix('torch.')}" in DTYPES,
                f"one of {', '.join(DTYPES)}",
            ),
            "num_attention_heads": (
                model.num_attention_heads % model.num_query_groups == 0,
                f"a multiple of num_query_groups = {model.num_query_groups}",
            ),
            "kv_channels": (model.kv_channels % 8 == 0, "a multiple of 8"),
            "in_channels": (not model.half_channel_vae or model.in_channels % 2 == 0, "even with half_channel_vae"),
            "cond_hidden_ratio": (model.condition_size > 0, "large enough for one channel of hidden_size"),
            "caption_max_length": (model.caption_max_length > 1, "2 or more"),
            "x_rescale_factor": (model.x_rescale_factor > 0, "more than 0"),
            "layernorm_epsilon": (model.layernorm_epsilon > 0, "more than 0"),
        }
        for name, (holds, allowed) in conditions.items():
            require_value(f"{where}: {name}", getattr(model, name), holds, allowed)

    def _check_runtime(self, where: str) -> None:
        runtime = self.runtime
        one_branch = self.engine.distill or self.engine.fp8_quant
        times = runtime.cfg_t_range
        as_many = f"{len(times)} numbers, as many as cfg_t_range has"
        conditions = {
            "cfg_number": (
                runtime.cfg_number == 1 or (runtime.cfg_number == 3 and not one_branch),
                "1 for this model" if one_branch else "1 or 3",
            ),
            "cfg_t_range": (times[:1] == (0,) and list(times) == sorted(times), "times that start at 0 and rise"),
            "prev_chunk_scales": (len(runtime.prev_chunk_scales) == len(times), as_many),
            "text_scales": (len(runtime.text_scales) == len(times), as_many),
            "clean_chunk_kvrange": (runtime.clean_chunk_kvrange != 0, "-1, or more than 0"),
            "clean_t": (0 <= runtime.clean_t <= 1, "a time from 0 to 1"),
            "scale_factor": (runtime.scale_factor > 0, "more than 0"),
            "t5_device": (bool(_T5_DEVICES.fullmatch(runtime.t5_device)), "cpu, cuda or cuda:N"),
        }
        for name, (holds, allowed) in conditions.items():
            require_value(f"{where}: {name}", getattr(runtime, name), holds, allowed)

    def _check_engine(self, where: str) -> None:
        allowed: dict[str, tuple[Any, ...]] = {
            "distributed_backend": ("nccl", "gloo"),
            "cp_strategy": ("none", "cp_ulysses", "cp_shuffle_overlap"),
            "shortcut_mode": SHORTCUT_MODES,
            "enable_cuda_graph": (False,),
        }
        for name, values in allowed.items():
            value = getattr(self.engine, name)
            require_value(f"{where}: {name}", value, value in values, " or ".join(map(repr, values)))


def _section(cls: type[Section], values: Any, where: str) -> Section:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} has to be a mapping, not {shown(values)}")
    types = {field.name: field.type for field in fields(cls)}  # pyright: ignore[reportArgumentType]
    _check_names(values, set(types), where)
    for name, value in values.items():
        least = _LEAST.get(name, 1)
        holds, allowed = _KINDS[types[name]](value, least)
        require_value(f"{where}: {name}", value, holds, allowed)
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


_LEAST = {"seed": 0, "clean_chunk_kvrange": -1}
"""The least value of whole numbers that may be less than 1."""

_KINDS: dict[Any, Callable[[Any, int], tuple[bool, str]]] = {
    bool: lambda value, least: (isinstance(value, bool), "true or false"),
    str: lambda value, least: (isinstance(value, str), "a text"),
    int: lambda value, least: (is_whole(value, least), f"a whole number of at least {least}"),
    float: lambda value, least: (is_number(value), "a finite number"),
    tuple[int, ...]: lambda value, least: (_all(value, is_whole), "a list of whole numbers above 0"),
    tuple[float, ...]: lambda value, least: (_all(value, is_number), "a list of finite numbers"),
}
"""Whether a value from JSON has the type of a field, and the type in words."""


def _all(values: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(values, list | tuple) and all(fits(value) for value in values)


def _check_names(values: dict[str, Any], expected: set[str], where: str) -> None:
    missing, unknown = sorted(expected - values.keys()), sorted(values.keys() - expected)
    problems: list[str] = []
    if missing:
        problems.append(f"lacks {', '.join(missing)}")
    if unknown:
        problems.append(f"has unknown {', '.join(unknown)}")
    if problems:
        raise ConfigError(f"{where} {' and '.join(problems)}; take the official file of the model as a pattern")
