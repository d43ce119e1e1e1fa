"""What an error of one denoise step does to the video: `python benchmarks/sensitivity.py MODEL [--share I/N]`.

Videos of one chunk, from the calibration's prompts and other noise, in which the velocity of a single step is forecast
and all others are computed. The mean squared error of the final latents over that of the step itself is the step's
sensitivity: how much a plan has to weigh its errors. One JSON per video goes to `results/MODEL/sensitivity/`;
`--report` draws `sensitivity.png` beside them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from matplotlib.figure import Figure
from models import MODELS

from motioncache.config import ForecastConfig
from motioncache.forecast import Calibration, Forecast, VelocityProducts
from motioncache.policy.forecast import ForecastCache, shipped_calibration
from motioncache_eval.bench.config import Method
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.calibrate import GuidedVelocities
from motioncache_eval.command import add_share
from motioncache_eval.prompts import read_prompts
from motioncache_eval.report import environment, write_json

HERE = Path(__file__).resolve().parent
SEEDS = (2000, 3000)
"""Added to the job's seed, one after the other: neither the calibration nor the benchmark has the same noise."""

SIZE = {
    "skyreels-v2": ["num_frames=17", "base_num_frames=17", "num_inference_steps=30"],
    "magi-1": ["num_frames=24", "num_inference_steps=32"],
}
PLANNERS = {
    "skyreels-v2": "motioncache_skyreels.adapter.plan_forecast",
    "magi-1": "motioncache_magi.hook.plan_forecast",
}


def measure(name: str, bench: BenchModel, job: Any, calibration: Calibration) -> dict[str, Any]:
    """The sensitivity of every step but the first, which cannot be forecast, for one video."""
    velocities = GuidedVelocities(bench.guidance(job))
    method = Method(name="forecast", policy=ForecastConfig(target_speedup=1.0))
    exact = bench.take(job, method, prepare=velocities.attach).sample.latents
    levels = tuple(velocities.levels)
    products = VelocityProducts()
    for chunk in velocities.chunks():
        products.add(chunk.numpy())
    forecast = calibration.at(levels, 2)
    own = replace(forecast, products=products.mean())
    steps, local, final = list(range(1, len(levels))), [], []
    for skipped in steps:

        def plan(config: Any, course: Any, skipped: int = skipped, **_: Any) -> ForecastCache:
            return ForecastCache([i != skipped for i in range(course.iterations)], levels, forecast)

        with patch(PLANNERS[name], plan):
            latents = bench.take(job, method).sample.latents
        final.append(float((latents - exact).square().mean()))
        known = list(range(skipped - 1, max(skipped - 3, -1), -1))
        local.append(error_of(forecast, own, skipped, known))
    return {"prompt": job.prompt, "seed": job.seed, **environment(job.device), "levels": levels, "steps": steps,
            "local": local, "final": final}  # fmt: skip


def error_of(forecast: Forecast, own: Forecast, step: int, known: Sequence[int]) -> float:
    """Mean squared error that a forecast brings into the latents of one video, whose products are `own`."""
    c = np.array([1.0, *(-share for share in forecast.coefficients(step, known))])
    taken = [step, *known[: forecast.order]]
    ends = [*forecast.levels[1:], 0.0]
    return float(c @ own.products[np.ix_(taken, taken)] @ c) * (forecast.levels[step] - ends[step]) ** 2


def report(folder: Path) -> None:
    """Geometric means over the videos, which a video that becomes another one does not settle alone."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not found:
        sys.exit("error: there are no results; run benchmarks/sensitivity.py without --report first")
    levels, steps = found[0]["levels"], found[0]["steps"]
    ends = np.array([*levels[1:], 0.0])[steps]
    ratio = np.log([np.array(one["final"]) / np.array(one["local"]) for one in found])
    sensitivity = np.exp(ratio.mean(0))
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for one in np.exp(ratio):
        axes.semilogy(steps, one, color="0.8", linewidth=0.8)
    axes.semilogy(steps, sensitivity, "o-", markersize=3, label=f"measured, geometric mean of {len(found)} videos")
    for power in (1, 2):
        scale = np.exp(np.mean(np.log(sensitivity[-len(steps) // 2 :]) + power * np.log(1 - ends[-len(steps) // 2 :])))
        axes.semilogy(steps, scale / (1 - ends) ** power, "--", label=f"1 / signal{'²' if power == 2 else ''}, scaled")
    axes.set_xlabel("denoise step")
    axes.set_ylabel("error of the video over error of the step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(folder / "sensitivity.png", dpi=110)
    for step, end, value, low, high in zip(
        steps, ends, sensitivity, *np.exp(np.quantile(ratio, (0.25, 0.75), 0)), strict=True
    ):
        print(f"{step:3d} signal {1 - end:.3f}: {value:9.2f} [{low:.2f}, {high:.2f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    add_share(parser)
    parser.add_argument("--report", action="store_true", help="draw the results")
    options = parser.parse_args()
    folder = HERE / "results" / options.model / "sensitivity"
    if options.report:
        report(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(HERE / "calibration_prompts.txt")
    bench = MODELS[options.model].load([*SIZE[options.model], f"prompt={prompts[0]}"])
    calibration = Calibration.load(shipped_calibration(bench.adapter.presets()))
    part, parts = options.share
    jobs = [(prompt, seed + i) for seed in SEEDS for i, prompt in enumerate(prompts)]
    for index in range(part, len(jobs), parts):
        path, (prompt, seed) = folder / f"{index:02d}.json", jobs[index]
        if not path.exists():
            write_json(path, measure(options.model, bench, replace(bench.job, prompt=prompt, seed=seed), calibration))
            print(f"{index:02d} {prompt}", flush=True)


if __name__ == "__main__":
    main()
