"""Configuration of the VBench sampling: the key `vbench:` of the model's YAML file, and `key=value` overrides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from motioncache.config import parse_overrides, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache_skyreels.job.config import JobConfig, require, resolve_paths


@dataclass(frozen=True, slots=True, kw_only=True)
class VBenchConfig:
    """Which prompts are sampled, and where the videos go.

    Args:
        dimensions: VBench dimensions.
        full_info: path of `VBench_full_info.json`; null takes the one of an installed `vbench`.
        short_prompts, long_prompts: a folder of text files, or one file; see `prompts.list_videos`.
        samples_per_prompt: videos per prompt; VBench's standard is 5 (25 for temporal_flickering), the paper made 1.
        devices: one process each; empty takes all CUDA devices, or the CPU where there is none.
        output: gets one folder of videos per suite.
    """

    dimensions: tuple[str, ...] = ("subject_consistency",)
    full_info: str | None = None
    short_prompts: str | None = None
    long_prompts: str | None = None
    samples_per_prompt: int = 1
    devices: tuple[str, ...] = ()
    output: str = "outputs/vbench"

    def __post_init__(self) -> None:
        require("samples_per_prompt", self.samples_per_prompt, self.samples_per_prompt >= 1, "1 or more")


def load_vbench(path: Path, overrides: Sequence[str]) -> tuple[VBenchConfig, JobConfig]:
    """Read the settings and the sampling options, which stand together under `vbench:`.

    Keys of `JobConfig` (model, preset, sizes, seed, dtype, ...) configure the sampling, all others the prompts.
    Relative paths in the file start at the repository, those on the command line at the working directory.
    """
    section = read_yaml(path).get("vbench")
    if not isinstance(section, DictConfig):
        raise ConfigError(f"{path} has no section vbench:")
    values: dict[str, Any] = OmegaConf.to_container(section, resolve=True)  # pyright: ignore[reportAssignmentType]
    repository = path.resolve().parent.parent.parent
    resolve_paths(values, repository, keys=("output", "full_info", "short_prompts", "long_prompts"))
    values |= parse_overrides(overrides, [VBenchConfig, JobConfig])
    for key, instead in {"prompt": "VBench's own prompts are sampled", "device": "pass devices=[...]"}.items():
        if key in values:
            raise ConfigError(f"vbench: {key} cannot be set here; {instead}")
    ours = set(VBenchConfig.__dataclass_fields__)
    settings = structured(VBenchConfig, {k: v for k, v in values.items() if k in ours}, where="vbench")
    sampling = {k: v for k, v in values.items() if k not in ours} | {"prompt": "set per video"}
    return settings, structured(JobConfig, sampling, where="vbench")
