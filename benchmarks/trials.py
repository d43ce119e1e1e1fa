"""Tries variations of `forecast` on the shipped SkyReels-V2: `python benchmarks/trials.py [--share I/N]`.

Every variation makes the videos of the calibration's prompts from other noise, 57 frames at 30 steps, at shares of the
FLOPs of `exact`. One JSON per video goes to `benchmarks/results/skyreels-v2/trials/`; a video that is there, made with
the shipped calibration, is not made again. `--report` makes `trials.md` beside them. `trial.py` emulates variations.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from token_scores import SELECTORS
from trial import Trial
from variation import Cost, Variation, plan_variation

from motioncache.engine import Engine
from motioncache.errors import ConfigError
from motioncache.forecast.budget import ForecastConfig, shipped_calibration
from motioncache.forecast.calibration import Calibration
from motioncache.forecast.guided import measured_products
from motioncache.forecast.policy import ForecastCache
from motioncache.forecast.prediction import Array, Forecast, end_sigmas
from motioncache_eval.bench.config import Method
from motioncache_eval.bench.model import BenchModel, calibration_hash, find_loader
from motioncache_eval.command import add_share
from motioncache_eval.intervals import bootstrap_interval
from motioncache_eval.metrics import moving_pixels, psnr, psnr_where
from motioncache_eval.prompts import read_prompts
from motioncache_eval.report import environment, write_json
from motioncache_eval.velocity_probes import GuidedVelocities
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cost import SkyReelsCost

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "results" / "skyreels-v2" / "trials"
SETTINGS = ["num_frames=57", "base_num_frames=57", "num_inference_steps=30"]
FIRST_SEED = 2000
"""Added to the job's seed: neither the calibration nor the benchmark has the same noise."""


@dataclass(frozen=True)
class Repeat(Forecast):
    """Repeats the last velocity as it is."""

    def fit(self, known: list[int]) -> Array:
        return np.eye(len(known))[:1].T.repeat(len(self.sigmas), axis=1)


@dataclass(frozen=True)
class Damped(Forecast):
    """Follows the straight line through the last two velocities, over sigma, for a part of the way."""

    damping: float = 0.5

    def fit(self, known: list[int]) -> Array:
        if len(known) < 2:
            return np.ones((1, len(self.sigmas)))
        last, before = self.sigmas[known[0]], self.sigmas[known[1]]
        ahead = self.damping * (np.array(self.sigmas) - last) / (last - before)
        return np.stack([1 + ahead, -ahead])


def made_into(kind: type[Forecast], **more: float) -> Any:
    """A function that makes the calibrated forecast into one of another kind."""
    return lambda forecast: kind(forecast.sigmas, forecast.products, forecast.sensitivity, forecast.order, **more)


def by_signal(power: int) -> Any:
    """A function that makes the sensitivity of the calibrated forecast 1 / (share of signal after a step)^power."""

    def weighed(forecast: Forecast) -> Forecast:
        signal = 1 - end_sigmas(forecast.sigmas)
        return replace(forecast, sensitivity=signal**-power)

    return weighed


def variations() -> dict[str, Variation]:
    """The variations by name; `run` sets their budget."""
    tried: dict[str, dict[str, Any]] = {
        "forecast": {},
        "plan and coefficients of the very video": {"own_planned": True, "own_coefficients": True},
        "plan of the very video": {"own_planned": True},
        "coefficients of the very video": {"own_coefficients": True},
        "order 0: the last velocity": {"forecast": made_into(Repeat)},
        "order 1: the last velocity, scaled": {"forecast": lambda forecast: replace(forecast, order=1)},
        "straight line, damped by 0.5": {"forecast": made_into(Damped)},
        "straight line, undamped": {"forecast": made_into(Damped, damping=1.0)},
        "in hidden space": {"hidden": True},
        "order 0: the last residual, in hidden space": {"hidden": True, "forecast": made_into(Repeat)},
        "order 3": {"forecast": lambda forecast: replace(forecast, order=3)},
        "errors weighed by step length alone": {"forecast": by_signal(0)},
        "errors weighed by 1 / signal": {"forecast": by_signal(1)},
        "errors weighed by 1 / signal squared": {"forecast": by_signal(2)},
        "uncond at every 2nd planned iteration": {"uncond_every": 2},
        "uncond at every 3rd planned iteration": {"uncond_every": 3},
    }  # fmt: skip
    chosen: list[tuple[float, str, str]] = [
        (0.1, "predicted x0", "stale"),
        (0.1, "predicted x0", "fresh"),
        *((0.25, selector, "stale") for selector in SELECTORS),
        (0.25, "predicted x0", "fresh"),
        (0.25, "velocity change", "fresh"),
        (0.25, "oracle", "fresh"),
    ]
    for share, selector, keys in chosen:
        name = f"{share:.0%} of tokens in between, by {selector}, {keys} keys"
        tried[name] = {"tokens": share, "selector": selector, "keys": keys, "age": selector != "oracle"}
    return {name: Variation(budget=1.0, **given) for name, given in tried.items()}


BUDGETS = (0.5, 0.35)

COUNT = 4
"""How many of the calibration's prompts are sampled."""


class Known:
    """What a video is compared with, and what its schedule is: from one run with everything computed."""

    def __init__(self, bench: BenchModel, job: Any) -> None:
        velocities = GuidedVelocities(bench.guidance(job))
        engines: list[Engine] = []

        def prepare(hook: Any) -> None:
            velocities.attach(hook)
            engines.append(hook.engine)

        taken = bench.take(job, Method(name="exact", policy=ForecastConfig(target_speedup=1.0)), prepare=prepare)
        (engine,) = engines
        assert isinstance(engine.policy, ForecastCache)
        self.profile, self.grid = engine.policy.profile, engine.trace.windows[0].grid
        self.frames = bench.decode(job, taken.sample.latents)
        found = np.mean(list(velocities.products().values()), axis=0)
        self.products, _ = measured_products(found, bench.guidance(job))


def make(bench: BenchModel, job: Any, known: Known, variation: Variation, calibration: Calibration) -> dict[str, Any]:
    """Make one video and compare it with the one of which everything was computed."""
    profile = known.profile
    mean = variation.forecast(calibration.at(profile.sigmas, 2))
    own = replace(mean, products=known.products)
    forecast = own if variation.own_coefficients else mean
    cost = Cost(variation, profile, SkyReelsCost.of(bench.transformer), known.grid)
    planned = plan_variation(variation, profile, own if variation.own_planned else mean, cost)
    with Trial(bench.transformer, variation, profile, forecast, planned, known.grid).attached():
        latents = bench.call(bench.pipeline, job, lambda: None)
    frames = bench.decode(job, latents)
    return {
        "prompt": job.prompt,
        "seed": job.seed,
        **environment(job.device),
        "cost": cost.video(planned) / profile.full_flops,
        "planned": sum(planned),
        "psnr_db": psnr(frames, known.frames),
        "psnr_moving_db": psnr_where(frames, known.frames, moving_pixels(known.frames)),
    }


def path_of(name: str, budget: float, index: int) -> Path:
    folder = "".join(c if c.isalnum() else "-" for c in name.lower())
    return OUTPUT / f"{folder}-at-{budget:g}".replace("--", "-") / f"{index:02d}.json"


@cache
def shipped() -> Calibration:
    return Calibration.load(shipped_calibration(SkyReelsAdapter().presets()))


@cache
def shipped_hash() -> str:
    return calibration_hash(shipped())


def run(part: int, parts: int) -> None:
    """Make the videos that are missing."""
    prompts = read_prompts(HERE / "calibration_prompts.txt")
    bench = find_loader("skyreels-v2")(HERE.parent / "addconfig" / "config.yaml", [*SETTINGS, f"prompt={prompts[0]}"])
    calibration, made_with = shipped(), shipped_hash()
    jobs = {i: replace(bench.job, prompt=prompts[i], seed=bench.job.seed + FIRST_SEED + i) for i in range(COUNT)}
    known: dict[int, Known] = {}
    for budget, (name, variation), index in product(BUDGETS, variations().items(), range(part, COUNT, parts)):
        path = path_of(name, budget, index)
        if path.exists() and json.loads(path.read_text())["calibration"] == made_with:
            continue
        if index not in known:
            known[index] = Known(bench, jobs[index])
        try:
            result = make(bench, jobs[index], known[index], replace(variation, budget=budget), calibration)
        except ConfigError:
            print(f"{index} {name} at {budget:g}: it pays for no choice of iterations", flush=True)
            continue
        result["calibration"] = made_with
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        print(f"{index} {name} at {budget:g}: {result['psnr_db']:.1f} dB, {result['cost']:.3f}", flush=True)


def report() -> None:
    """Write and print the table."""
    lines = [
        "Videos of 57 frames at 30 steps. PSNR in dB against the video with everything computed (share of its FLOPs), "
        "of what moves, and the difference to `forecast`, prompt by prompt, with its 95 % interval.",
        "",
        "| | " + " | ".join(f"{budget:g} of exact | moving | against forecast" for budget in BUDGETS) + " |",
        "|---|" + "--:|--:|--:|" * len(BUDGETS),
    ]
    for name in variations():
        cells = [_cell(name, budget) for budget in BUDGETS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    (OUTPUT / "trials.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _cell(name: str, budget: float) -> str:
    found = _results(name, budget)
    if len(found) < 2:
        return "n/a | n/a | n/a"
    plain = _results("forecast", budget)
    gains = [found[i]["psnr_db"] - plain[i]["psnr_db"] for i in found if i in plain]
    low, high = bootstrap_interval(gains)
    mean = {key: statistics.mean(cell[key] for cell in found.values()) for key in ("psnr_db", "psnr_moving_db", "cost")}
    against = "" if name == "forecast" else f"{statistics.mean(gains):+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"{mean['psnr_db']:.1f} ({mean['cost']:.2f}) | {mean['psnr_moving_db']:.1f} | {against}"


def _results(name: str, budget: float) -> dict[str, Any]:
    """The results made with the shipped calibration, by the name of their file."""
    paths: Sequence[Path] = sorted(path_of(name, budget, 0).parent.glob("*.json"))
    found = {path.stem: json.loads(path.read_text()) for path in paths}
    return {stem: result for stem, result in found.items() if result["calibration"] == shipped_hash()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_share(parser)
    parser.add_argument("--report", action="store_true", help="make the table from the results")
    options = parser.parse_args()
    torch.manual_seed(0)
    report() if options.report else run(*options.share)


if __name__ == "__main__":
    main()
