"""Measure a model for `forecast`: `python -m motioncache_eval.calibrate MODEL JOB --prompts FILE --output FILE`.

Samples some prompts with every step computed, and writes the mean products of a chunk's velocities at any two denoise
steps; then videos of one chunk in which a single step is forecast, and writes how far that leads the video away. One
calibration serves any number of steps, the model's guidance scale and all lengths of videos.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motioncache.config import ForecastAblationConfig, ForecastConfig
from motioncache.engine import Task
from motioncache.errors import MotionCacheError
from motioncache.forecast import Array, Calibration, Forecast, VelocityProducts
from motioncache.state import ChunkState
from motioncache_eval.bench.config import Method
from motioncache_eval.bench.model import BenchModel, find_loader
from motioncache_eval.command import run_command
from motioncache_eval.prompts import read_prompts
from motioncache_eval.sampling import Sample

MEASURED_STEPS = 16
"""Steps whose sensitivity is measured."""

FIRST_SEED = 1000
"""Added to the job's seed, so that no benchmark has the same noise."""


class GuidedVelocities:
    """Engine observer: adds up the branches of every chunk's velocity, step by step, over one video."""

    def __init__(self, guidance: Mapping[str, float]) -> None:
        self.levels: Sequence[float] = ()
        self._guidance = guidance
        self._steps: dict[int, dict[int, torch.Tensor]] = defaultdict(dict)
        self._hook: Any = None

    def attach(self, hook: Any) -> None:
        self._hook = hook
        hook.engine.observer = self._observe

    def _observe(self, task: Task, state: ChunkState) -> None:
        if task.work.kv_only is not None or state.residual is None:
            return
        self.levels = self._hook.engine.policy.levels
        steps, step = self._steps[task.work.chunk], task.request.step
        guided = self._guidance[task.work.branch] * state.residual.double().cpu().flatten()
        steps[step] = steps[step] + guided if step in steps else guided

    def chunks(self) -> Iterator[torch.Tensor]:
        """The velocities of every chunk, `[steps, values]`."""
        for steps in self._steps.values():
            yield torch.stack([steps[step] for step in sorted(steps)])


def measure_products(model: BenchModel, prompts: Sequence[str]) -> Calibration:
    """Sample the prompts, each with a seed of its own; the sensitivity is that of a model that carries no error on."""
    products, levels = VelocityProducts(), ()
    for index, prompt in enumerate(prompts):
        job = replace(model.job, prompt=prompt, seed=model.job.seed + FIRST_SEED + index)
        sample, velocities = _sample_exact(model, job)
        if len(sample.trace.windows if sample.trace else ()) != 1:
            raise MotionCacheError("a calibration needs videos of one window: pass a smaller num_frames")
        for chunk in velocities.chunks():
            products.add(chunk.numpy())
        levels = tuple(velocities.levels)
        print(f"{prompt}: {sample.seconds:.1f} s", flush=True)
    layers, width = model.size
    neutral = np.ones(len(levels))
    return Calibration(layers=layers, width=width, levels=levels, products=products.mean(), sensitivity=neutral)


def measure_sensitivity(model: BenchModel, prompts: Sequence[str], calibration: Path) -> Calibration:
    """The calibration of a file, with the sensitivity of videos of one chunk: the geometric mean over the prompts.

    Some steps are measured, at equal distances; the others lie between them.
    """
    made = Calibration.load(calibration)
    forecast = made.at(made.levels, 2)
    steps = np.unique(np.linspace(1, len(made.levels) - 1, MEASURED_STEPS).round().astype(int)).tolist()
    ratios: list[list[float]] = []
    for index, prompt in enumerate(prompts):
        seed = model.job.seed + FIRST_SEED + index
        job = replace(model.job, prompt=prompt, seed=seed, num_frames=model.chunks[0])
        exact, velocities = _sample_exact(model, job)
        own = VelocityProducts()
        for chunk in velocities.chunks():
            own.add(chunk.numpy())
        ratios.append([])
        for step in steps:
            config = ForecastAblationConfig(calibration=str(calibration.absolute()), skipped=(step,))
            latents = model.take(job, Method(name="one step", policy=config)).sample.latents
            final = float((latents - exact.latents).double().square().mean())
            ratios[-1].append(final / _brought_in(forecast, own.mean(), step))
        print(f"{prompt}: {' '.join(f'{ratio:.3g}' for ratio in ratios[-1])}", flush=True)
    measured = np.log(ratios).mean(axis=0)
    return replace(made, sensitivity=np.exp(np.interp(np.arange(len(made.levels)), steps, measured)))


def _sample_exact(model: BenchModel, job: Any) -> tuple[Sample, GuidedVelocities]:
    velocities = GuidedVelocities(model.guidance(job))
    method = Method(name="every step", policy=ForecastConfig(target_speedup=1.0))
    return model.take(job, method, prepare=velocities.attach).sample, velocities


def _brought_in(forecast: Forecast, own: Array, step: int) -> float:
    """Squared error that a forecast step brings into the latents of the video whose products are `own`."""
    known = list(range(step - 1, max(step - 3, -1), -1))
    shares = np.array([1.0, *(-share for share in forecast.coefficients(step, known))])
    taken = [step, *known]
    end = (*forecast.levels, 0.0)[step + 1]
    return float(shares @ own[np.ix_(taken, taken)] @ shares) * (forecast.levels[step] - end) ** 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m motioncache_eval.calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="skyreels-v2, magi-1, or another one that is installed")
    parser.add_argument("job", type=Path, help="the main job's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the main job")
    parser.add_argument("--prompts", type=Path, required=True, help="text file, a prompt a line")
    parser.add_argument("--output", type=Path, required=True, help="the JSON to write")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Load, sample, write."""
    if not options.output.absolute().parent.is_dir():
        raise MotionCacheError(f"--output {options.output}: there is no folder {options.output.parent}; make it first")
    prompts = read_prompts(options.prompts)
    model = find_loader(options.model)(options.job, [*options.overrides, f"prompt={prompts[0]}"])
    measure_products(model, prompts).save(options.output)
    measure_sensitivity(model, prompts, options.output).save(options.output)
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
