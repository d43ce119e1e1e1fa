"""Tunes the one knob of a method to budgets of counted FLOPs, so that methods are compared at equal cost."""

import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache_eval.bench.cell import error_text, job_of
from motioncache_eval.bench.config import (
    Benchmark,
    Method,
    MethodConfig,
    TuneConfig,
    budget_name,
    build_method,
    fingerprint,
    folder_name,
    meets_budget,
    portable,
)
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.prompts import read_prompts
from motioncache_eval.report import write_json

CLOSE = 0.02
"""A budget that is met to this relative distance is met."""

FINE = 1.03
"""Two values of the knob that are so near to each other have none between them: costs have steps."""

TRIES = 6
"""Values that are tried for each budget, besides both ends."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value of the knob and the FLOPs of a video with it."""

    value: float
    flops: float


def expand_methods(bench: BenchModel, benchmark: Benchmark) -> list[Method]:
    """All methods that are measured: a tuned one at each budget that it meets, and at the first one in any case.

    Raises:
        MotionCacheError: for a method that has not been tuned for these settings.
    """
    methods: list[Method] = []
    for name, given in benchmark.methods.items():
        tuning = benchmark.tuning_of(name)
        if tuning is None:
            methods.append(build_method(name, given, bench.adapter))
            continue
        found, base = (_read_tuned(benchmark, tuned) for tuned in (name, benchmark.config.budget_of))
        if found.get("fingerprint") != _template(bench, benchmark, name) or not base:
            raise MotionCacheError(f"{name!r} has not been tuned for these settings: run with --tune first")
        if "error" in found:  # its row says what it raises
            low = set_knob(given, tuning, tuning.low)
            methods.append(build_method(name, low, bench.adapter))
            continue
        points = [Point(**point) for point in found["points"]]
        for share in benchmark.config.budgets:
            budget = share * base["flops"]
            best = nearest(points, budget)
            if share != benchmark.config.budgets[0] and not meets_budget(best.flops, budget):
                continue
            at_budget = set_knob(given, tuning, best.value)
            methods.append(build_method(budget_name(name, share), at_budget, bench.adapter, family=name))
    return methods


def tune_benchmark(bench: BenchModel, benchmark: Benchmark, share: tuple[int, int] = (0, 1)) -> Iterator[str]:
    """Tune what has not been tuned for these settings; yields a line for each method.

    Args:
        share: (i, n) takes every n-th of the methods, from the i-th on.
    """
    prompts = read_prompts(Path(benchmark.config.tuning_prompts))

    def cost(name: str, given: MethodConfig) -> float:
        return video_flops(bench, build_method(name, given, bench.adapter), prompts)

    base = benchmark.config.budget_of
    made_for = _template(bench, benchmark, base)
    if _read_tuned(benchmark, base).get("fingerprint") != made_for:
        _write_tuned(benchmark, base, {"fingerprint": made_for, "flops": cost(base, benchmark.methods[base])})
    whole = _read_tuned(benchmark, base)["flops"]
    targets = [share * whole for share in benchmark.config.budgets]
    tunings = {name: tuning for name in benchmark.methods if (tuning := benchmark.tuning_of(name)) is not None}
    for name in list(tunings)[share[0] :: share[1]]:
        made_for = _template(bench, benchmark, name)
        if _read_tuned(benchmark, name).get("fingerprint") == made_for:
            continue
        given, tuning = benchmark.methods[name], tunings[name]
        try:
            points = search(lambda value, n=name, g=given, t=tuning: cost(n, set_knob(g, t, value)), targets, tuning)
        except Exception as error:
            said = error_text(error)
            _write_tuned(benchmark, name, {"fingerprint": made_for, "error": said})
            yield f"{name}: {said.splitlines()[-1]}"
        else:
            held = [{"value": point.value, "flops": point.flops} for point in points]
            _write_tuned(benchmark, name, {"fingerprint": made_for, "points": held})
            met = [nearest(points, target) for target in targets]
            yield f"{name}: " + ", ".join(
                f"{point.value:.4g} costs {point.flops / target:.1%} of {budget:g}"
                for point, target, budget in zip(met, targets, benchmark.config.budgets, strict=True)
            )


def video_flops(bench: BenchModel, method: Method, prompts: list[str]) -> float:
    """Mean over prompts of the model's FLOPs for a video, counted by the cache, or by the meter without one of ours."""
    costs = []
    for index, prompt in enumerate(prompts):
        taken = bench.take(job_of(bench, method, prompt, index), method)
        summary = taken.sample.summary
        costs.append(taken.flops if summary is None else summary.flops)
    return statistics.mean(costs)


def search(cost: Callable[[float], float], targets: list[float], tuning: TuneConfig) -> list[Point]:
    """Points around the targets, by value; the cost rises or falls with the value."""
    points = [Point(value, cost(value)) for value in (tuning.low, tuning.high)]
    for target in targets:
        for _ in range(TRIES):
            value = _next_value(sorted(points, key=lambda point: point.value), target, tuning)
            if value is None:
                break
            points.append(Point(value, cost(value)))
    return sorted(points, key=lambda point: point.value)


def nearest(points: list[Point], target: float) -> Point:
    """The point whose cost is nearest to the target, as a ratio."""
    return min(points, key=lambda point: abs(math.log(point.flops / target)))


def _next_value(points: list[Point], target: float, tuning: TuneConfig) -> float | None:
    """Between the two points that enclose the target; None where it is met, out of reach, or cannot be met better."""
    if abs(nearest(points, target).flops / target - 1) < CLOSE:
        return None
    around = next(((a, b) for a, b in pairwise(points) if (a.flops - target) * (b.flops - target) < 0), None)
    if around is None:
        return None
    (a, b), step = around, tuning.multiple
    share = (math.log(target) - math.log(a.flops)) / (math.log(b.flops) - math.log(a.flops))
    share = min(max(share, 0.2), 0.8)  # a cost with steps would hold a straight line at one end
    value = math.exp(math.log(a.value) + share * (math.log(b.value) - math.log(a.value)))
    if step is None:
        return value if b.value / a.value > FINE else None
    value = min(max(round(value / step) * step, a.value + step), b.value - step)
    return int(value) if a.value < value < b.value else None


def set_knob(given: MethodConfig, tuning: TuneConfig, value: float) -> MethodConfig:
    """The method with its knob at a value."""
    whole = value if tuning.multiple is None else int(value)
    for place in tuning.knob.split():
        section, _, key = place.partition(".")
        given = replace(given, **{section: {**(getattr(given, section) or {}), key: whole}})
    return given


def _template(bench: BenchModel, benchmark: Benchmark, name: str) -> str:
    """Hash of all that the tuning of a method follows from."""
    given, tuning = benchmark.methods[name], benchmark.tuning_of(name)
    return fingerprint(
        {
            "job": {key: value for key, value in portable(bench.job).items() if key != "prompt"},
            "weights": bench.weights,
            "prompts": read_prompts(Path(benchmark.config.tuning_prompts)),
            "method": {key: getattr(given, key) for key in ("preset", "policy", "peer", "knobs", "job")},
            "tuning": None if tuning is None else portable(tuning),
        }
    )


def _tuned_path(benchmark: Benchmark, name: str) -> Path:
    return Path(benchmark.config.tuned) / f"{folder_name(name)}.json"


def _read_tuned(benchmark: Benchmark, name: str) -> dict[str, Any]:
    """What tuning a method has found; empty where it has not been tuned."""
    path = _tuned_path(benchmark, name)
    try:
        return json.loads(path.read_text()) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise MotionCacheError(f"{path} cannot be read: {error}; delete it to tune again") from None


def _write_tuned(benchmark: Benchmark, name: str, found: dict[str, Any]) -> None:
    path = _tuned_path(benchmark, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
