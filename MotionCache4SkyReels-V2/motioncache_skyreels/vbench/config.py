"""Configuration of the VBench sampling: the key `vbench:` of the model's YAML file, and `key=value` overrides."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from motioncache.config import PolicyConfig, parse_overrides, plain_values, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache_eval.settings import read_settings
from motioncache_eval.vbench.config import VBenchConfig
from motioncache_eval.vbench.record import Record, describe_policy, fingerprint, installed_versions
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.job.config import JobConfig, resolve_model

PATHS = ("output", "full_info", "short_prompts", "long_prompts")

INSTEAD = {"prompt": "VBench's own prompts are sampled", "device": "pass devices=[...]"}
"""Sampling options that VBench sampling sets itself."""

_RECORDED_OTHERWISE = ("model", "preset", "target_speedup", "prompt", "device", "cpu_offload", "output")
"""Sampling options that the record holds in another form, or that change no video."""


def load_vbench(path: Path, overrides: Sequence[str]) -> tuple[VBenchConfig, JobConfig]:
    """Read the section `vbench:`, which holds both the choice of prompts and the sampling options.

    Keys of `VBenchConfig` choose the prompts. All others (model, preset, sizes, seed, dtype, ...) are sampling options.
    Relative paths in the file start at the repository, those on the command line at the working directory.
    """
    section = plain_values(read_yaml(path), where=str(path)).get("vbench")
    if not isinstance(section, dict):
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


def describe_settings(job: JobConfig, policy: PolicyConfig) -> Record:
    """All that decides what the videos look like, but for their prompts and seeds, which follow from their names."""
    folder = Path(job.model)
    sampling = {key: value for key, value in asdict(job).items() if key not in _RECORDED_OTHERWISE}
    return {
        "model": fingerprint(folder) if folder.is_dir() else job.model,
        **sampling,
        "policy": describe_policy(policy, SkyReelsAdapter().presets()),
        "versions": installed_versions(),
    }
