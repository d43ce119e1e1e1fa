"""Configuration of the VBench sampling: the key `vbench:` of the model's YAML file, and `key=value` overrides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from motioncache.config import parse_overrides, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache_eval.settings import read_settings, require
from motioncache_skyreels.job.config import JobConfig, resolve_model

PATHS = ("output", "full_info", "short_prompts", "long_prompts")

INSTEAD = {"prompt": "VBench's own prompts are sampled", "device": "pass devices=[...]"}
"""Sampling options that VBench sampling sets itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VBenchConfig:
    """Which prompts are sampled, and where the videos go.

    Args:
        dimensions: VBench dimensions.
        full_info: path of `VBench_full_info.json`; null takes that of an installed `vbench`.
        short_prompts, long_prompts: a folder of text files, or one file; see `prompts.list_videos`.
        samples_per_prompt: videos per prompt; VBench's standard is 5 (25 for temporal_flickering), the paper made 1.
        devices: each gets one process; an empty list means all CUDA devices, or the CPU if there are none.
        output: folder in which each suite has a folder of videos.
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
    """Read the section `vbench:`, which holds both the choice of prompts and the sampling options.

    Keys of `VBenchConfig` choose the prompts. All others (model, preset, sizes, seed, dtype, ...) are sampling options.
    Relative paths in the file start at the repository, those on the command line at the working directory.
    """
    section = read_yaml(path).get("vbench")
    if not isinstance(section, DictConfig):
        raise ConfigError(f"{path} has no section vbench: add one, as in the file that is shipped")
    repository = path.resolve().parent.parent.parent
    values = read_settings(section, repository=repository, paths=PATHS)
    resolve_model(values, repository)
    values |= parse_overrides(overrides, [VBenchConfig, JobConfig])
    for key, instead in INSTEAD.items():
        if key in values:
            raise ConfigError(f"vbench: {key} cannot be set here; {instead}")
    names = set(VBenchConfig.__dataclass_fields__)
    settings = {key: value for key, value in values.items() if key in names}
    sampling = {key: value for key, value in values.items() if key not in names} | {"prompt": "set per video"}
    return structured(VBenchConfig, settings, where="vbench"), structured(JobConfig, sampling, where="vbench")
