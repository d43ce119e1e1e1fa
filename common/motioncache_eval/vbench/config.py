"""Which of VBench's prompts are sampled, with which presets, how often, where, and on which devices."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motioncache.config import parse_overrides, plain_values, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache.field_types import shown
from motioncache_eval.jobs import JobModel
from motioncache_eval.settings import read_settings, require, require_device, require_path, resolve_model

MOST_SAMPLES = 1000
"""VBench takes 25 of a prompt at most."""

PATHS = ("output", "full_info", "short_prompts", "long_prompts")

LOCAL, RAY = "local", "ray"
"""Where the workers are: on this machine, or on a Ray cluster."""

SETTINGS = "settings"
"""The key of the section that holds named settings."""

INSTEAD = {
    "prompt": "VBench's own prompts are sampled",
    "device": "pass devices=[...]",
    "preset": "pass presets=[...]",
    "image": "VBench's prompts are texts",
    "video": "VBench's prompts are texts",
}
"""Settings of a job that VBench sampling sets itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VBenchConfig:
    """Which prompts are sampled, how, and where the videos go.

    Args:
        setting: named settings that replace those of the file: `standard` for VBench's numbers of videos, `paper` for
            what the paper sampled; null takes the file's.
        presets: each is a name of a preset, the path of a YAML file with a policy, or `vanilla`, which is no cache.
        dimensions: VBench dimensions; `[all]` are the 16.
        full_info: path of `VBench_full_info.json`; null takes that of VBench's package (`scripts/vbench_env.sh`).
        short_prompts: prompts to use instead of VBench's: a folder of `{suite}.txt`, or one file for one suite. Those
            of the file are for its model, so `full_info=` or another `model=` puts VBench's in their place.
        long_prompts: prompts to sample in place of the short ones, under their names: a folder of `{suite}_longer.txt`,
            or one file.
        samples_per_prompt: videos per prompt; VBench's standard is 5, the paper made 1.
        flickering_samples: videos per prompt of `temporal_flickering`; VBench's standard is 25; null takes
            samples_per_prompt.
        same_seed: all videos have the seed itself, as in the paper's runs of MAGI-1; otherwise each has one that is
            made from the seed and its name.
        devices: each gets one worker; an empty list means all CUDA devices, or the CPU if there are none, of this
            machine or of the cluster. On a cluster, which chooses the GPUs, they are `cuda` and `cpu`.
        executor: `local` starts the workers on this machine, `ray` on a Ray cluster (the extra `cluster`).
        address: of the cluster, for `ray`: `auto` for that of this machine, `HOST:PORT`, or `ray://HOST:PORT`; empty
            starts a cluster of this machine alone, which ends with the run.
        verify: how videos of an earlier run are looked at: `checksum` compares size and SHA-256, `decode` also decodes
            all their frames.
        item_timeout: seconds after which a worker that is still making a video counts as hung, and is ended; null
            allows ten times the longest that a video of the run has taken, and at least ten minutes.
        dry_run: list what would be made, and how long it takes, and make nothing.
        seconds_per_video: for `dry_run`, what a video takes with each preset; without it, what it took in `output`.
        score: score the videos with VBench when all are made; null does where VBench's environment is there
            (`scripts/vbench_env.sh`), and true refuses to start without it.
        output: folder of the videos; each preset has a folder there, and each suite one in that.
    """

    setting: str | None = None
    presets: tuple[str, ...] = ("slow",)
    dimensions: tuple[str, ...] = ("subject_consistency",)
    full_info: str | None = None
    short_prompts: str | None = None
    long_prompts: str | None = None
    samples_per_prompt: int = 1
    flickering_samples: int | None = None
    same_seed: bool = False
    devices: tuple[str, ...] = ()
    executor: str = "local"
    address: str = ""
    item_timeout: float | None = None
    verify: str = "checksum"
    dry_run: bool = False
    seconds_per_video: dict[str, float] = field(default_factory=dict)
    score: bool | None = None
    output: str = "outputs/vbench"

    def __post_init__(self) -> None:
        for name in ("samples_per_prompt", "flickering_samples"):
            samples = getattr(self, name)
            allowed = samples is None or 1 <= samples <= MOST_SAMPLES
            require(name, samples, allowed, f"from 1 to {MOST_SAMPLES}")
        require("presets", list(self.presets), bool(self.presets), "a list of at least one preset, such as [slow]")
        require("verify", self.verify, self.verify in ("checksum", "decode"), "checksum, decode")
        self._check_executor()
        for preset, seconds in self.seconds_per_video.items():
            require(f"seconds_per_video.{preset}", seconds, seconds > 0, "more than 0")
        for name in PATHS:
            require(name, getattr(self, name), getattr(self, name) != "", "null, or a path")
            require_path(name, getattr(self, name))

    def _check_executor(self) -> None:
        require("executor", self.executor, self.executor in (LOCAL, RAY), f"{LOCAL}, {RAY}")
        require("address", self.address, not self.address or self.executor == RAY, f"an address, with executor={RAY}")
        for device in self.devices:
            require_device(device)
            chosen = self.executor == LOCAL or device in ("cpu", "cuda")
            require("devices", device, chosen, f"cuda or cpu with executor={RAY}, which chooses the GPUs")
        positive = self.item_timeout is None or self.item_timeout > 0
        require("item_timeout", self.item_timeout, positive, "null, or more than 0 seconds")


def load_vbench(model: JobModel, path: Path, overrides: Sequence[str]) -> tuple[VBenchConfig, Any]:
    """Read the section `vbench:`, which holds both the choice of prompts and the settings of the job.

    Keys of `VBenchConfig` choose the prompts. All others (model, sizes, seed, dtype, ...) are settings of the model's
    job. Relative paths in the file start at the repository, those on the command line at the working directory.

    Returns:
        The choice, and the job, which has neither a prompt nor a preset of its own yet.
    """
    section = plain_values(read_yaml(path), where=str(path)).get("vbench")
    if not isinstance(section, dict):
        raise ConfigError(f"{path} has no section vbench: add one, as in the file that is shipped")
    overriding = parse_overrides(overrides, [model.schema, VBenchConfig])
    values = _from_file(section, path, model, overriding)
    for key, instead in INSTEAD.items():
        if values.get(key) is not None:
            raise ConfigError(f"vbench: {key} cannot be set here; {instead}")
    names = set(VBenchConfig.__dataclass_fields__)
    settings = {key: value for key, value in values.items() if key in names}
    sampling = {key: value for key, value in values.items() if key not in names} | {"prompt": "set per video"}
    return structured(VBenchConfig, settings, where="vbench"), structured(model.schema, sampling, where="vbench")


def _from_file(section: dict[str, Any], path: Path, model: JobModel, overriding: dict[str, Any]) -> dict[str, Any]:
    """The values of the section, with those of a named setting in place, and then the overriding ones."""
    repository = path.resolve().parents[2]
    named = plain_values(section.get(SETTINGS, {}), where=f"{path}: vbench.{SETTINGS}")
    values = {key: value for key, value in section.items() if key != SETTINGS}
    values = model.override(
        _resolved(values, repository), {key: overriding[key] for key in overriding if key == "model"}
    )
    if {"full_info", "model"} & set(overriding):
        values["short_prompts"] = None
    setting = overriding.get("setting", values.get("setting"))
    if setting is not None:
        if not isinstance(setting, str) or setting not in named:
            raise ConfigError(f"vbench: there is no setting {shown(setting)}; allowed: null, {', '.join(named)}")
        chosen = plain_values(named[setting], where=f"vbench.{SETTINGS}.{setting}")
        values |= _resolved(chosen, repository)
    return values | overriding


def _resolved(values: dict[str, Any], repository: Path) -> dict[str, Any]:
    """Values of a file, with paths that start at the repository."""
    values = read_settings(values, repository=repository, paths=PATHS)
    resolve_model(values, repository)
    return values
