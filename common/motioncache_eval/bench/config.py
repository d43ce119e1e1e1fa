"""Configuration of a benchmark: which model, which prompts, which methods."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from motioncache.api import Adapter, resolve_preset
from motioncache.config import PolicyConfig, parse_overrides, parse_policy, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache_eval.prompts import read_prompts
from motioncache_eval.settings import require

REFERENCE = "vanilla"
"""The method that all others are compared with: the pipeline as it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """One method.

    Args:
        preset: one of the model's presets, or a YAML file with a policy.
        policy: a policy as in a preset, in place of `preset`; neither of the two is the pipeline without a cache.
        job: settings of the main job that the method changes, such as `num_inference_steps`.
        family: methods that one line of the curve joins; null takes the first word of the name.
    """

    preset: str | None = None
    policy: dict[str, Any] | None = None
    job: dict[str, Any] = field(default_factory=dict)
    family: str | None = None

    def __post_init__(self) -> None:
        require("policy", self.policy, self.policy is None or self.preset is None, "either preset or policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """A benchmark.

    Args:
        model: name of a model that can be measured, such as `skyreels-v2`.
        job: its main job's YAML file; a relative path starts at the benchmark's own file.
        settings: settings of the main job for all methods.
        prompts: a text file, one prompt a line; a relative path starts at the benchmark's own file.
        count: how many of the prompts; null takes all.
        repeats: how often each method is timed; the times are medians.
        output: gets the results; a relative path starts at the benchmark's own file.
        shown: how many of the prompts the page shows with their videos.
        compare: pairs of methods whose difference is reported, prompt by prompt.
    """

    model: str = ""
    job: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    prompts: str = ""
    count: int | None = None
    repeats: int = 3
    output: str = ""
    shown: int = 4
    compare: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in ("model", "job", "prompts", "output"):
            require(name, getattr(self, name), bool(getattr(self, name)), "a name or a path")
        require("count", self.count, self.count is None or self.count >= 1, "null, or 1 or more")
        require("repeats", self.repeats, self.repeats >= 1, "1 or more")
        require("shown", self.shown, self.shown >= 0, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method that has been checked.

    Attributes:
        policy: None is the pipeline without a cache.
        job: settings of the main job that it changes.
    """

    name: str
    policy: PolicyConfig | None
    job: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Name of the folder of its results."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark that has been read; its methods are checked when the model is known."""

    config: BenchConfig
    methods: Mapping[str, MethodConfig]
    prompts: tuple[str, ...]

    @property
    def job_overrides(self) -> list[str]:
        """The common settings as `key=value` texts, with the first prompt in the place of the job's own."""
        settings = {**self.config.settings, "prompt": self.prompts[0]}
        return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]

    def check_methods(self, adapter: Adapter) -> list[Method]:
        """The methods with their policies.

        Raises:
            ConfigError: for an unknown preset, policy or knob; it names the method.
        """
        return [_method(name, given, adapter) for name, given in self.methods.items()]


def load_benchmark(path: Path, overrides: Sequence[str] = ()) -> Benchmark:
    """Read a benchmark's YAML file.

    Raises:
        ConfigError: for a file that cannot be read, an unknown key, or a method that cannot be.
    """
    values: dict[str, Any] = OmegaConf.to_container(read_yaml(path), resolve=True)  # pyright: ignore
    given = values.pop("methods", None)
    if not isinstance(given, dict) or REFERENCE not in given:
        raise ConfigError(f"{path.name}: methods: has to hold {REFERENCE!r}, which all others are compared with")
    for key in ("job", "prompts", "output"):
        if isinstance(values.get(key), str):
            values[key] = str(path.resolve().parent / values[key])
    values |= parse_overrides(overrides, [BenchConfig])
    config = structured(BenchConfig, values, where=path.name)
    prompts = read_prompts(Path(config.prompts))
    methods = {
        str(name): structured(MethodConfig, method or {}, where=f"{path.name}: methods.{name}")
        for name, method in given.items()
    }
    reference = methods[REFERENCE]
    if reference.preset or reference.policy or reference.job:
        raise ConfigError(f"{path.name}: methods.{REFERENCE} is the pipeline as it comes and takes no settings")
    for pair in config.compare:
        if len(pair) != 2 or not set(pair) <= set(methods):
            raise ConfigError(f"{path.name}: compare: {list(pair)} has to be two of the methods: {', '.join(methods)}")
    return Benchmark(config=config, methods=methods, prompts=tuple(prompts[: config.count]))


def _method(name: str, given: MethodConfig, adapter: Adapter) -> Method:
    where = f"methods.{name}"
    policy = None
    if given.preset is not None:
        policy = resolve_preset(adapter, given.preset)
    elif given.policy is not None:
        policy = parse_policy(given.policy, where=where, policies=adapter.policies)
    return Method(name=name, policy=policy, job=given.job)


def settings_of(job: Any, policy: Any) -> dict[str, Any]:
    """Everything that a result follows from, besides versions; the same on every machine: of a path its last name."""
    return {"job": _portable(job), "policy": {"is": type(policy).__name__, **_portable(policy)} if policy else None}


def fingerprint(job: Any, policy: Any) -> str:
    """Short hash of `settings_of`."""
    text = json.dumps(settings_of(job, policy), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _portable(settings: Any) -> dict[str, Any]:
    return {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in asdict(settings).items()
    }
