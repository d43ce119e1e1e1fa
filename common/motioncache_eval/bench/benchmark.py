"""A benchmark as it is read from its YAML file: the prompts, and the methods that are measured on them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motioncache.config import plain_values, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache.field_types import require_type, shown
from motioncache_eval.bench.config import (
    PATHS,
    REFERENCE,
    BenchConfig,
    MethodConfig,
    SweepConfig,
    TuneConfig,
    budget_name,
    folder_name,
    require_folders,
)
from motioncache_eval.bench.model import BenchModel, find_loader
from motioncache_eval.bench.overrides import apply_overrides
from motioncache_eval.prompts import read_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark that has been read; its methods are checked when the model is known."""

    config: BenchConfig
    methods: Mapping[str, MethodConfig]
    prompts: tuple[str, ...]

    def load_model(self) -> BenchModel:
        """Load the model as the demo does, with the common settings.

        Raises:
            MotionCacheError: for an unknown model, or settings that it does not have or take.
        """
        return find_loader(self.config.model)(Path(self.config.job) if self.config.job else None, self.job_overrides)

    def may_fail(self, name: str) -> bool:
        """Whether a measured method is known to raise on this model."""
        return name in self.methods and self.methods[name].may_fail

    @property
    def job_overrides(self) -> list[str]:
        """The common settings as `key=value` texts, with the first prompt in the place of the demo's own."""
        settings = {**self.config.settings, "prompt": self.prompts[0]}
        return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]

    def tuning_of(self, name: str) -> TuneConfig | None:
        """How a method is tuned; None for one that stays as it is."""
        values = self.methods[name].tune
        return None if values is None else structured(TuneConfig, values, where=f"methods.{name}.tune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A benchmark for each value of a setting; without a sweep, there is one, by the empty name."""

    key: str
    output: Path
    benchmarks: Mapping[str, Benchmark]


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a benchmark's YAML file.

    Args:
        overrides: see `apply_overrides`; relative paths in them start at the working directory.

    Raises:
        ConfigError: for a file that cannot be read, an unknown key, or methods that do not fit together.
    """
    values = plain_values(read_yaml(path), where=path.name)
    folder = path.resolve().parent
    values |= {key: str(folder / values[key]) for key in PATHS if isinstance(values.get(key), str) and values[key]}
    values = apply_overrides(values, overrides, where=path.name)
    if values.get("output") in (None, ""):
        values["output"] = f"outputs/bench-{path.stem}"
    require_type("output", values["output"], str)
    swept, methods = values.pop("sweep", None), values.pop("methods", None)
    if swept is None:
        benchmark = _read_benchmark(values, methods, path.name)
        return Sweep(key="", output=Path(benchmark.config.output), benchmarks={"": benchmark})
    sweep = structured(SweepConfig, swept, where=f"{path.name}: sweep")
    benchmarks = {
        sweep.label(value): _read_benchmark(_at_value(values, sweep, value, folder), methods, path.name)
        for value in sweep.over
    }
    return Sweep(key=sweep.key, output=Path(values["output"]), benchmarks=benchmarks)


def _at_value(values: dict[str, Any], sweep: SweepConfig, value: Any, folder: Path) -> dict[str, Any]:
    """The benchmark's values where the swept setting has one of its own, with a folder of its own for the results."""
    output = str(Path(values["output"]) / f"{sweep.key}-{sweep.label(value)}")
    settings = values.get("settings", {})
    section = values if sweep.key == "prompts" else plain_values(settings, where="settings")
    if sweep.key in section:
        raise ConfigError(f"{sweep.key}: {shown(section[sweep.key])} does nothing, as the sweep sets it: leave one out")
    if sweep.key == "prompts":
        return {**values, "output": output, "prompts": str(folder / value)}
    return {**values, "output": output, "settings": {**settings, sweep.key: value}}


def _read_benchmark(values: dict[str, Any], methods: Any, where: str) -> Benchmark:
    if not isinstance(methods, dict) or REFERENCE not in methods:
        raise ConfigError(f"{where}: methods: has to hold {REFERENCE!r}, which all others are compared with")
    config = structured(BenchConfig, values, where=where)
    prompts = read_prompts(Path(config.prompts))
    configs = {name: _read_method(name, method, where) for name, method in methods.items()}
    benchmark = Benchmark(config=config, methods=configs, prompts=tuple(prompts[: config.count]))
    problem = next(_problems(benchmark), None) or _problem_of_prompts(config, prompts)
    if problem is not None:
        raise ConfigError(f"{where}: {problem}")
    return benchmark


def _read_method(name: Any, values: Any, where: str) -> MethodConfig:
    if not isinstance(name, str):
        raise ConfigError(f"{where}: methods: {shown(name)} is no text: write the name of a method in quotes")
    return structured(MethodConfig, {} if values is None else values, where=f"{where}: methods.{name}")


def _problem_of_prompts(config: BenchConfig, prompts: Sequence[str]) -> str | None:
    """What is wrong with the prompts that are measured; None for nothing."""
    if config.count is not None and config.count > len(prompts):
        return f"count: {config.count}, but {config.prompts} has {len(prompts)} prompts; null takes all"
    prompt, times = Counter(prompts[: config.count]).most_common(1)[0]
    if times > 1:
        return f"{config.prompts} has the prompt {shown(prompt)} {times} times: the tables know videos by their prompts"
    return None


def _problems(benchmark: Benchmark) -> Iterator[str]:
    """What does not fit together."""
    config, methods = benchmark.config, benchmark.methods
    require_folders("methods", [(name, folder_name(name)) for name in methods])
    if methods[REFERENCE] != MethodConfig():
        yield f"methods.{REFERENCE} is the pipeline as it comes and takes no settings"
    tuned = [name for name in methods if benchmark.tuning_of(name) is not None]
    if tuned and not config.budgets:
        yield f"methods.{tuned[0]}.tune needs budgets: to be tuned to"
    if config.budgets and (config.budget_of not in methods or config.budget_of in tuned):
        yield f"budget_of: {shown(config.budget_of)} has to be a method that is not tuned"
    names = _measured_names(methods, tuned, config.budgets)
    require_folders("methods", [(name, folder_name(name)) for name in names])
    for pair in config.compare:
        if len(pair) != 2 or len(set(pair) & set(names)) != 2:
            yield f"compare: {shown(list(pair))} has to be two of the methods: {', '.join(names)}"


def _measured_names(methods: Mapping[str, MethodConfig], tuned: list[str], budgets: Sequence[float]) -> list[str]:
    """Names under which methods are measured: a tuned one has a name for each budget."""
    return [
        *(name for name in methods if name not in tuned),
        *(budget_name(name, share) for name in tuned for share in budgets),
    ]
