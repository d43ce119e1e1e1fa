"""Tunes the one knob of a method to budgets of counted FLOPs, so that methods are compared at equal cost."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache_eval.bench.benchmark import Benchmark
from motioncache_eval.bench.cell import error_text, job_of, last_line
from motioncache_eval.bench.config import (
    Method,
    MethodConfig,
    TuneConfig,
    budget_name,
    build_method,
    fingerprint,
    folder_name,
    job_settings,
    meets_budget,
    portable,
)
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.results import read_json
from motioncache_eval.bench.search import Point, nearest, search
from motioncache_eval.prompts import read_prompts
from motioncache_eval.report import write_json


def expand_methods(bench: BenchModel, benchmark: Benchmark) -> list[Method]:
    """All methods that are measured: a tuned one at each budget that it meets, and at the first one in any case.

    Raises:
        MotionCacheError: for a method that has not been tuned for these settings.
    """
    methods: list[Method] = []
    for name, config in benchmark.methods.items():
        tuning = benchmark.tuning_of(name)
        if tuning is None:
            methods.append(build_method(name, config, bench.adapter))
        else:
            methods += _at_budgets(bench, benchmark, name, tuning)
    return methods


def check_methods(bench: BenchModel, benchmark: Benchmark) -> list[Method]:
    """Build all methods, a tuned one with both ends of its knob, and the jobs of all prompts; return the methods.

    Raises:
        ConfigError: for an unknown preset, policy or setting, or a value that is out of range.
    """
    methods: list[Method] = []
    for name, config in benchmark.methods.items():
        tuning = benchmark.tuning_of(name)
        ends = [config] if tuning is None else [set_knob(config, tuning, value) for value in (tuning.low, tuning.high)]
        built = [build_method(name, end, bench.adapter) for end in ends]
        for method in built:
            for index, prompt in enumerate(benchmark.prompts):
                bench.settings(job_of(bench, method, prompt, index), method)
        methods.append(built[0])
    if benchmark.config.budgets:
        read_prompts(Path(benchmark.config.tuning_prompts))
    return methods


def _at_budgets(bench: BenchModel, benchmark: Benchmark, name: str, tuning: TuneConfig) -> Iterator[Method]:
    """A tuned method at its budgets; one that raised while it was tuned, once, so that its row says what it raises."""
    config, (first, *_) = benchmark.methods[name], benchmark.config.budgets
    tuned, base = (_read_tuned(benchmark, method) for method in (name, benchmark.config.budget_of))
    if tuned.get("fingerprint") != tuning_fingerprint(bench, benchmark, name) or not base:
        raise MotionCacheError(f"{name!r} has not been tuned for these settings: run with --tune first")
    if "error" in tuned:
        yield build_method(name, set_knob(config, tuning, tuning.low), bench.adapter)
        return
    points = [Point(**point) for point in tuned["points"]]
    for share in benchmark.config.budgets:
        budget = share * base["flops"]
        best = nearest(points, budget)
        if share == first or meets_budget(best.flops, budget):
            at_budget = set_knob(config, tuning, best.value)
            yield build_method(budget_name(name, share), at_budget, bench.adapter, family=name)


def tune_benchmark(bench: BenchModel, benchmark: Benchmark, share: tuple[int, int] = (0, 1)) -> Iterator[str]:
    """Tune what has not been tuned for these settings; yields a line for each method.

    Args:
        share: (i, n) takes every n-th of the methods, from the i-th on.
    """
    whole = _base_flops(bench, benchmark)
    tunings = {name: tuning for name in benchmark.methods if (tuning := benchmark.tuning_of(name)) is not None}
    for name in list(tunings)[share[0] :: share[1]]:
        wanted = tuning_fingerprint(bench, benchmark, name)
        if _read_tuned(benchmark, name).get("fingerprint") != wanted:
            result, line = _tune(bench, benchmark, name, tunings[name], whole)
            _write_tuned(benchmark, name, {"fingerprint": wanted, **result})
            yield f"{name}: {line}"


def _base_flops(bench: BenchModel, benchmark: Benchmark) -> float:
    """FLOPs that the budgets are shares of; measured where they have not been for these settings."""
    name = benchmark.config.budget_of
    wanted = tuning_fingerprint(bench, benchmark, name)
    if _read_tuned(benchmark, name).get("fingerprint") != wanted:
        flops = _cost(bench, benchmark, name, benchmark.methods[name])
        _write_tuned(benchmark, name, {"fingerprint": wanted, "flops": flops})
    return _read_tuned(benchmark, name)["flops"]


def _tune(
    bench: BenchModel, benchmark: Benchmark, name: str, tuning: TuneConfig, whole: float
) -> tuple[dict[str, Any], str]:
    """What the method's file gets, points or an error, and a line about it."""
    config, budgets = benchmark.methods[name], benchmark.config.budgets
    targets = [share * whole for share in budgets]
    try:
        points = search(lambda value: _cost(bench, benchmark, name, set_knob(config, tuning, value)), targets, tuning)
    except Exception as error:
        text = error_text(error)
        return {"error": text}, last_line(text)
    best = [nearest(points, target) for target in targets]
    line = ", ".join(
        f"{point.value:.4g} costs {point.flops / target:.1%} of {budget:g}"
        for point, target, budget in zip(best, targets, budgets, strict=True)
    )
    return {"points": [{"value": point.value, "flops": point.flops} for point in points]}, line


def _cost(bench: BenchModel, benchmark: Benchmark, name: str, config: MethodConfig) -> float:
    prompts = read_prompts(Path(benchmark.config.tuning_prompts))
    return video_flops(bench, build_method(name, config, bench.adapter), prompts)


def video_flops(bench: BenchModel, method: Method, prompts: Sequence[str]) -> float:
    """Mean over prompts of the model's FLOPs for a video, counted by the cache, or by the meter without one of ours."""
    costs = []
    for index, prompt in enumerate(prompts):
        taken = bench.take(job_of(bench, method, prompt, index), method)
        summary = taken.sample.summary
        costs.append(taken.flops if summary is None else summary.flops)
    return statistics.mean(costs)


def set_knob(config: MethodConfig, tuning: TuneConfig, value: float) -> MethodConfig:
    """The method with its knob at a value."""
    number = value if tuning.multiple is None else int(value)
    for place in tuning.knob.split():
        section, _, key = place.partition(".")
        config = replace(config, **{section: {**(getattr(config, section) or {}), key: number}})
    return config


def tuning_fingerprint(bench: BenchModel, benchmark: Benchmark, name: str) -> str:
    """Short hash of all that the tuning of a method follows from."""
    config, tuning = benchmark.methods[name], benchmark.tuning_of(name)
    return fingerprint(
        {
            "job": {key: value for key, value in job_settings(bench.job).items() if key != "prompt"},
            "weights": bench.weights,
            "prompts": read_prompts(Path(benchmark.config.tuning_prompts)),
            "method": {key: getattr(config, key) for key in ("preset", "policy", "baseline", "knobs", "job")},
            "tuning": None if tuning is None else portable(tuning),
        }
    )


def _tuned_path(benchmark: Benchmark, name: str) -> Path:
    return Path(benchmark.config.tuned) / f"{folder_name(name)}.json"


def _read_tuned(benchmark: Benchmark, name: str) -> dict[str, Any]:
    """What tuning a method has found; empty where it has not been tuned."""
    path = _tuned_path(benchmark, name)
    if not path.is_file():
        return {}
    found = read_json(path)
    known = {"fingerprint", "error"} <= set(found) or _is_tuned(found)
    if "fingerprint" not in found or not known:
        raise MotionCacheError(
            f"{path} is damaged: {found.get('error', 'it is no result of --tune')}; delete it to tune again"
        )
    return found


def _is_tuned(found: Mapping[str, Any]) -> bool:
    """Whether a file holds points of a knob, or the FLOPs of the method that budgets are shares of."""
    points = found.get("points")
    if isinstance(points, list) and points:
        return all(
            isinstance(one, dict) and set(one) == {"value", "flops"} and _are_positive(one.values()) for one in points
        )
    return _are_positive([found.get("flops")])


def _are_positive(values: Iterable[object]) -> bool:
    return all(isinstance(value, int | float) and value > 0 for value in values)


def _write_tuned(benchmark: Benchmark, name: str, content: dict[str, Any]) -> None:
    path = _tuned_path(benchmark, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
