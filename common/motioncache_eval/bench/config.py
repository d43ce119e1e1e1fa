"""What a benchmark's YAML file may say: which model, which prompts, which methods, and how methods are tuned."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from motioncache.config import KVStorage, PolicyConfig
from motioncache.errors import ConfigError
from motioncache.field_types import shown
from motioncache.presets import parse_policy
from motioncache.registry import Adapter, resolve_preset
from motioncache_eval.settings import require, require_path, require_plain

REFERENCE = "vanilla"
"""The method that all others are compared with: the pipeline as it comes."""

PATHS = ("job", "prompts", "output", "tuned", "tuning_prompts")
"""Keys whose relative paths start at the benchmark's own file."""

MOST_REPEATS, MOST_SHOWN, MOST_VALUES = 100, 100, 100
"""Upper limits of `repeats`, `shown`, and of the number of budgets and of values of a sweep: typing errors end here."""

LARGEST_KNOB = 1e6
"""Upper limit of a knob, which may be a number of steps."""

LONGEST_NAME = 150
"""The longest name of a folder, in characters; file systems allow 255 bytes."""

WITHIN = 0.1
"""A method that comes this near to a budget, as a share of it, is compared at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """One method.

    Args:
        preset: one of the model's presets, or a YAML file with a policy.
        policy: a policy as in a preset, in place of `preset`.
        baseline: a cache of another package that the model's package can turn on, in place of `preset`. Without any of
            the three, the method is the pipeline without a cache.
        knobs: settings of the baseline.
        job: settings of the demo that the method changes, such as `num_inference_steps`.
        tune: a `TuneConfig`; the method is measured at every budget, with the knob that meets it.
        count: how many of the prompts, from the first on, it is measured on; null takes all.
        may_fail: the method is known to raise on this model: its row says so, and the exit status stays 0.
        family: methods that one line of the curve joins; null takes the name in front of a comma or a budget.
    """

    preset: str | None = None
    policy: dict[str, Any] | None = None
    baseline: str | None = None
    knobs: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    tune: dict[str, Any] | None = None
    count: int | None = None
    may_fail: bool = False
    family: str | None = None

    def __post_init__(self) -> None:
        caches = [name for name in ("preset", "policy", "baseline") if getattr(self, name) is not None]
        require("policy", caches, len(caches) <= 1, "one of preset, policy and baseline")
        require("knobs", self.knobs, self.baseline is not None or not self.knobs, "settings of a baseline")
        for name in ("policy", "knobs", "job", "tune"):
            require_plain(name, getattr(self, name))
        require("count", self.count, self.count is None or self.count >= 1, "null, or 1 or more")
        require("family", self.family, self.family is None or is_name(self.family), "null, or a name for a line")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """The one knob of a method, which is tuned to the budgets.

    Args:
        knob: where it is, such as `policy.threshold`; several that are set alike, with spaces between them.
        low: the smallest value that is tried, more than 0.
        high: the largest value that is tried.
        multiple: the knob is a whole number and a multiple of this; null searches between the numbers as well.
    """

    knob: str = ""
    low: float = 0.001
    high: float = 1.0
    multiple: int | None = None

    def __post_init__(self) -> None:
        sections = [name.partition(".")[0] for name in self.knob.split()]
        in_sections = bool(sections) and set(sections) <= {"policy", "knobs", "job"}
        require("knob", self.knob, in_sections, "policy.NAME, knobs.NAME or job.NAME")
        require("high", self.high, self.high <= LARGEST_KNOB, f"at most {LARGEST_KNOB}")
        require("low", self.low, 0 < self.low < self.high, "more than 0, and less than high")
        require("multiple", self.multiple, self.multiple is None or self.multiple >= 1, "null, or 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """A benchmark.

    Args:
        model: name of a model that can be measured, such as `skyreels-v2`.
        job: the YAML file of a demo; a relative path starts at the benchmark's own file. Empty takes the model's own
            demo.
        settings: settings of the demo for all methods.
        prompts: a text file, one prompt a line; a relative path starts at the benchmark's own file.
        count: how many of the prompts, from the first on; null takes all.
        repeats: how often each prompt is sampled; its times are medians.
        output: gets the results; a relative path starts at the benchmark's own file. Empty takes
            `outputs/bench-NAME` in the working directory, with the name of the benchmark's file.
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
        for name in ("model", "prompts", "output"):
            require(name, getattr(self, name), bool(getattr(self, name)), "a name or a path")
        for name in PATHS:
            require_path(name, getattr(self, name))
        require_plain("settings", self.settings)
        for key in self.settings:
            require("settings", key, key.isidentifier(), "names of settings of the demo")
        require("settings", self.settings, "prompt" not in self.settings, "all but prompt; the prompts are in prompts:")
        require("count", self.count, self.count is None or self.count >= 1, "null, or 1 or more")
        require("repeats", self.repeats, 1 <= self.repeats <= MOST_REPEATS, f"1 to {MOST_REPEATS}")
        require("shown", self.shown, 0 <= self.shown <= MOST_SHOWN, f"0 to {MOST_SHOWN}")
        require("budgets", list(self.budgets), len(self.budgets) <= MOST_VALUES, f"at most {MOST_VALUES}")
        require("budgets", list(self.budgets), all(share > 0 for share in self.budgets), "numbers above 0")
        for name in ("tuned", "tuning_prompts") if self.budgets else ():
            require(name, getattr(self, name), bool(getattr(self, name)), "a path, where there are budgets")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """One setting that takes several values; the benchmark runs with each, in a folder of its own.

    Args:
        key: a setting of the demo, or `prompts`.
        over: its values, at least two.
    """

    key: str = ""
    over: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        require("key", self.key, self.key.isidentifier(), "a setting of the demo, or prompts")
        require("key", self.key, self.key != "prompt", "prompts, with files of prompts")
        require("over", list(self.over), len(self.over) >= 2, "two values or more")
        require("over", list(self.over), len(self.over) <= MOST_VALUES, f"at most {MOST_VALUES} values")
        for value in self.over:
            single = value is None or isinstance(value, str | int | float)
            require("over", value, single and (self.key != "prompts" or isinstance(value, str)), "texts and numbers")
        require_folders("over", [(self.label(value), self.label(value)) for value in self.over])

    def label(self, value: Any) -> str:
        """What a value is called in names of folders and in tables."""
        return Path(str(value)).stem if self.key == "prompts" else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method that has been checked.

    Attributes:
        policy: None is the pipeline without a cache of ours.
        baseline: a cache of another package; its settings are `knobs`.
        job: settings of the demo that it changes.
        family: methods that one line of the curve joins.
        count: how many of the prompts it is measured on; None for all.
    """

    name: str
    policy: PolicyConfig | None = None
    baseline: str | None = None
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
        """What the method does besides its job; None for nothing."""
        if self.baseline is not None:
            return {"is": self.baseline, **self.knobs}
        if self.policy is None:
            return None
        fields = {key: value for key, value in portable(self.policy).items() if key not in PERMISSIONS}
        if self.policy.kv is not KVStorage.int8:
            del fields["kv"]
        return {"is": type(self.policy).__name__, **fields}


def folder_name(method: str) -> str:
    """A method's name as that of a folder or file."""
    return re.sub(r"[^a-z0-9.]+", "-", method.lower()).strip("-")


def is_name(text: str) -> bool:
    """Whether tables and pictures can show a name: on one line, and not too long."""
    return bool(text.strip()) and text.isprintable() and len(text) <= LONGEST_NAME


def require_folders(what: str, folders: Iterable[tuple[str, str]]) -> None:
    """Refuse names whose folders are none, or are those of others.

    Args:
        what: what the names are of.
        folders: each name, with its folder.
    """
    owners: dict[str, str] = {}
    for name, folder in folders:
        allowed = f"a name of letters from a to z or digits, at most {LONGEST_NAME}: its folder is called by them"
        require(what, name, is_name(name) and bool(folder.strip(".")) and "/" not in folder, allowed)
        if folder in owners:
            raise ConfigError(
                f"{what}: {shown(name)} and {shown(owners[folder])} have the same folder, {folder}: rename one of them"
            )
        owners[folder] = name


def budget_name(name: str, share: float) -> str:
    """Name of a method that was tuned to a budget."""
    return f"{name} at {share:g}"


def meets_budget(flops: float, budget: float) -> bool:
    """Whether a method costs about as much as a budget, so that it may be compared at it."""
    return abs(flops / budget - 1) <= WITHIN


def build_method(name: str, config: MethodConfig, adapter: Adapter, family: str | None = None) -> Method:
    """A method with its policy.

    Args:
        family: of a method whose config names none; None takes the name up to a comma.

    Raises:
        ConfigError: for an unknown preset, or a policy with an unknown name or setting; it names the method.
    """
    policy = None
    if config.preset is not None:
        policy = resolve_preset(adapter, config.preset)
    elif config.policy is not None:
        policy = parse_policy(config.policy, where=f"methods.{name}", policies=adapter.policies)
    return Method(
        name=name,
        policy=policy,
        baseline=config.baseline,
        knobs=config.knobs,
        job=config.job,
        family=config.family or family or name.partition(",")[0],
        count=config.count,
    )


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Short hash of settings as a JSON file holds them."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def portable(settings: Any) -> dict[str, Any]:
    """A dataclass as a JSON file holds it on any machine: enums as their values, absolute paths as their last name."""
    return {key: _portable_value(value) for key, value in asdict(settings).items()}


def _portable_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


PERMISSIONS = ("allow_foreign_calibration", "split_guidance")
"""Settings of a policy that change no video."""

NOT_SAMPLED = (
    "preset", "target_speedup", "allow_foreign_calibration", "kv", "split_guidance", "chunks_at_once", "compare",
    "output",
)  # fmt: skip
"""Settings of a demo that no result follows from: a method brings its own policy, and a benchmark its folder."""

ADDED = {"weights": None, "t5_dtype": "float32"}
"""Settings that jobs did not always have: at these values a result is that of a job without them."""


def job_settings(job: Any) -> dict[str, Any]:
    """What a result follows from in a demo's settings."""
    settings = {key: value for key, value in portable(job).items() if key not in NOT_SAMPLED}
    return {key: value for key, value in settings.items() if key not in ADDED or value != ADDED[key]}
