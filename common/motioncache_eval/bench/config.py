"""Configuration of a benchmark: which model, which prompts, which methods."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from motioncache.config import PolicyConfig, parse_overrides, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache.presets import parse_policy
from motioncache.registry import Adapter, resolve_preset
from motioncache_eval.prompts import read_prompts
from motioncache_eval.settings import require

REFERENCE = "vanilla"
"""The method that all others are compared with: the pipeline as it comes."""

WITHIN = 0.1
"""A method that comes this near to a budget, as a share of it, is compared at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """One method.

    Args:
        preset: one of the model's presets, or a YAML file with a policy.
        policy: a policy as in a preset, in place of `preset`.
        peer: a cache of another package that the model's package can turn on, in place of `preset`; none of the three
            is the pipeline without a cache.
        knobs: settings of the peer.
        job: settings of the main job that the method changes, such as `num_inference_steps`.
        tune: a `TuneConfig`; the method is measured at every budget, with the knob that meets it.
        count: of how many prompts, the first ones, it is measured; null takes all.
        may_fail: it is known to raise on this model; its row says so, and the exit status does not.
        family: methods that one line of the curve joins; null takes the name in front of a comma or a budget.
    """

    preset: str | None = None
    policy: dict[str, Any] | None = None
    peer: str | None = None
    knobs: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    tune: dict[str, Any] | None = None
    count: int | None = None
    may_fail: bool = False
    family: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("preset", "policy", "peer") if getattr(self, name) is not None]
        require("policy", given, len(given) <= 1, "one of preset, policy and peer")
        require("knobs", self.knobs, self.peer is not None or not self.knobs, "settings of a peer")
        require("count", self.count, self.count is None or self.count >= 1, "null, or 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """The one knob of a method, which is tuned to the budgets.

    Args:
        knob: where it is, such as `policy.threshold`; several that are set alike, with spaces between them.
        low, high: where to search.
        multiple: the knob is a whole number and a multiple of this; null searches between the numbers as well.
    """

    knob: str = ""
    low: float = 0.001
    high: float = 1.0
    multiple: int | None = None

    def __post_init__(self) -> None:
        known = all(name.partition(".")[0] in ("policy", "knobs", "job") for name in self.knob.split())
        require("knob", self.knob, bool(self.knob) and known, "policy.NAME, knobs.NAME or job.NAME")
        require("low", self.low, 0 < self.low < self.high, "more than 0, and less than high")
        require("multiple", self.multiple, self.multiple is None or self.multiple >= 1, "null, or 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """A benchmark.

    Args:
        model: name of a model that can be measured, such as `skyreels-v2`.
        job: its main job's YAML file; a relative path starts at the benchmark's own file.
        settings: settings of the main job for all methods.
        prompts: a text file, one prompt a line; a relative path starts at the benchmark's own file.
        count: how many of the prompts; null takes all.
        repeats: how often each prompt is sampled; its times are medians.
        output: gets the results; a relative path starts at the benchmark's own file.
        shown: how many of the prompts the page shows with their videos.
        compare: pairs of methods whose difference is reported, prompt by prompt.
        budgets: shares of the FLOPs of `budget_of` that methods with a `tune` are tuned to.
        budget_of: one of the methods.
        tuned: a folder that gets a JSON of each method from `--tune`; a relative path starts at the benchmark's own
            file.
        tuning_prompts: a text file of prompts to tune with, others than those that are measured.
    """

    model: str = ""
    job: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    prompts: str = ""
    count: int | None = None
    repeats: int = 1
    output: str = ""
    shown: int = 4
    compare: tuple[tuple[str, ...], ...] = ()
    budgets: tuple[float, ...] = ()
    budget_of: str = "exact"
    tuned: str = ""
    tuning_prompts: str = ""

    def __post_init__(self) -> None:
        for name in ("model", "job", "prompts", "output"):
            require(name, getattr(self, name), bool(getattr(self, name)), "a name or a path")
        require("count", self.count, self.count is None or self.count >= 1, "null, or 1 or more")
        require("repeats", self.repeats, self.repeats >= 1, "1 or more")
        require("shown", self.shown, self.shown >= 0, "0 or more")
        require("budgets", list(self.budgets), all(share > 0 for share in self.budgets), "numbers above 0")
        for name in ("tuned", "tuning_prompts") if self.budgets else ():
            require(name, getattr(self, name), bool(getattr(self, name)), "a path, where there are budgets")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """One setting that takes several values; the benchmark runs with each, in a folder of its own.

    Args:
        key: a setting of the main job, or `prompts`.
        over: its values, at least two.
    """

    key: str = ""
    over: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        require("key", self.key, bool(self.key), "a setting of the main job, or prompts")
        require("over", list(self.over), len(self.over) >= 2, "two values or more")

    def label(self, value: Any) -> str:
        """What a value is called in names of folders and in tables."""
        return Path(str(value)).stem if self.key == "prompts" else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method that has been checked.

    Attributes:
        policy: None is the pipeline without a cache of ours.
        peer: see `MethodConfig`; its knobs are `knobs`.
        job: settings of the main job that it changes.
        family: methods that one line of the curve joins.
        count: of how many prompts it is measured; None for all.
    """

    name: str
    policy: PolicyConfig | None = None
    peer: str | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""
    count: int | None = None

    @property
    def folder(self) -> str:
        """Name of the folder of its results."""
        return folder_name(self.name)

    @property
    def settings(self) -> dict[str, Any] | None:
        """What it does besides its job; None for nothing."""
        if self.peer is not None:
            return {"is": self.peer, **self.knobs}
        return None if self.policy is None else {"is": type(self.policy).__name__, **portable(self.policy)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark that has been read; its methods are checked when the model is known."""

    config: BenchConfig
    methods: Mapping[str, MethodConfig]
    prompts: tuple[str, ...]

    def may_fail(self, name: str) -> bool:
        """Whether a measured method is known to raise on this model."""
        return name in self.methods and self.methods[name].may_fail

    @property
    def job_overrides(self) -> list[str]:
        """The common settings as `key=value` texts, with the first prompt in the place of the job's own."""
        settings = {**self.config.settings, "prompt": self.prompts[0]}
        return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]

    def tuning_of(self, name: str) -> TuneConfig | None:
        """How a method is tuned; None for one that stays as it is."""
        given = self.methods[name].tune
        return None if given is None else structured(TuneConfig, given, where=f"methods.{name}.tune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A benchmark for each value of a setting; without a sweep, there is one, by the empty name."""

    key: str
    output: Path
    benchmarks: Mapping[str, Benchmark]


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a benchmark's YAML file.

    Raises:
        ConfigError: for a file that cannot be read, an unknown key, or a method that cannot be.
    """
    values: dict[str, Any] = OmegaConf.to_container(read_yaml(path), resolve=True)  # pyright: ignore
    swept = values.pop("sweep", None)
    for key in ("job", "prompts", "output", "tuned", "tuning_prompts"):
        if isinstance(values.get(key), str):
            values[key] = str(path.resolve().parent / values[key])
    methods = values.pop("methods", None)
    values |= parse_overrides(overrides, [BenchConfig])
    if swept is None:
        benchmark = _benchmark(values, methods, path.name)
        return Sweep(key="", output=Path(benchmark.config.output), benchmarks={"": benchmark})
    sweep = structured(SweepConfig, swept, where=f"{path.name}: sweep")
    output, benchmarks = Path(values.get("output", "")), {}
    for value in sweep.over:
        label = sweep.label(value)
        changed = {**values, "output": str(output / f"{sweep.key}-{label}")}
        if sweep.key == "prompts":
            changed["prompts"] = str(path.resolve().parent / value)
        else:
            changed["settings"] = {**values.get("settings", {}), sweep.key: value}
        benchmarks[label] = _benchmark(changed, methods, path.name)
    return Sweep(key=sweep.key, output=output, benchmarks=benchmarks)


def _benchmark(values: dict[str, Any], given: Any, where: str) -> Benchmark:
    if not isinstance(given, dict) or REFERENCE not in given:
        raise ConfigError(f"{where}: methods: has to hold {REFERENCE!r}, which all others are compared with")
    config = structured(BenchConfig, values, where=where)
    prompts = read_prompts(Path(config.prompts))
    methods = {
        str(name): structured(MethodConfig, method or {}, where=f"{where}: methods.{name}")
        for name, method in given.items()
    }
    benchmark = Benchmark(config=config, methods=methods, prompts=tuple(prompts[: config.count]))
    _check(benchmark, where)
    return benchmark


def _check(benchmark: Benchmark, where: str) -> None:
    config, methods = benchmark.config, benchmark.methods
    if methods[REFERENCE] != MethodConfig():
        raise ConfigError(f"{where}: methods.{REFERENCE} is the pipeline as it comes and takes no settings")
    tuned = [name for name in methods if benchmark.tuning_of(name) is not None]
    if tuned and not config.budgets:
        raise ConfigError(f"{where}: methods.{tuned[0]}.tune needs budgets: to be tuned to")
    if config.budgets and (config.budget_of not in methods or config.budget_of in tuned):
        raise ConfigError(f"{where}: budget_of: {config.budget_of!r} has to be a method that is not tuned")
    measured = [name for name in methods if name not in tuned]
    measured += [budget_name(name, share) for name in tuned for share in config.budgets]
    for pair in config.compare:
        if len(pair) != 2 or not set(pair) <= set(measured):
            raise ConfigError(f"{where}: compare: {list(pair)} has to be two of the methods: {', '.join(measured)}")


def folder_name(method: str) -> str:
    """A method's name as that of a folder or file."""
    return re.sub(r"[^a-z0-9.]+", "-", method.lower()).strip("-")


def budget_name(name: str, share: float) -> str:
    """Name of a method that was tuned to a budget."""
    return f"{name} at {share:g}"


def meets_budget(flops: float, budget: float) -> bool:
    """Whether a method costs about as much as a budget, so that it may be compared at it."""
    return abs(flops / budget - 1) <= WITHIN


def build_method(name: str, given: MethodConfig, adapter: Adapter, family: str | None = None) -> Method:
    """A method with its policy.

    Raises:
        ConfigError: for an unknown preset, policy or knob; it names the method.
    """
    policy = None
    if given.preset is not None:
        policy = resolve_preset(adapter, given.preset)
    elif given.policy is not None:
        policy = parse_policy(given.policy, where=f"methods.{name}", policies=adapter.policies)
    return Method(
        name=name,
        policy=policy,
        peer=given.peer,
        knobs=given.knobs,
        job=given.job,
        family=given.family or family or name.partition(",")[0],
        count=given.count,
    )


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Short hash of settings."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def portable(settings: Any) -> dict[str, Any]:
    """A dataclass as a mapping, of an absolute path its last name."""
    return {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in asdict(settings).items()
    }
