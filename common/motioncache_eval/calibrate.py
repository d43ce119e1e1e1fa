"""Measure a model for `forecast`: `python -m motioncache_eval.calibrate MODEL JOB --output FILE [--prompts FILE]`.

Samples some prompts with every step computed, and writes the mean products of a chunk's velocities at any two denoise
steps; then videos in which one step of one chunk is forecast, and writes how far that leads the video away. All this
takes as long as about eight uncached videos for each prompt, or twice that where a model does not take half the
number of steps. One calibration serves as many steps as it was measured with or fewer, the job's guidance scale, and
all lengths of videos.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motioncache.decision import Decision
from motioncache.engine import ChunkState, Engine
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.forecast.calibration import Calibration, sensitivity_between
from motioncache.forecast.policy import ForecastCache, ForecastConfig
from motioncache.forecast.prediction import Array, Forecast, velocity_products
from motioncache.probe import Probe
from motioncache_eval.bench.config import Method
from motioncache_eval.bench.model import BenchModel, find_loader
from motioncache_eval.command import check_output_file, run_command
from motioncache_eval.prompts import read_prompts

OWN = 4
"""Videos of the job's own prompt, where no others are given."""

MEASURED_STEPS = 12
"""Steps whose sensitivity is measured."""

LEAST_STEPS = 8
"""The sensitivity is measured with half as many, where the model takes half."""

FIRST_SEED = 1000
"""Added to the job's seed, so that no benchmark has the same noise."""


class GuidedVelocities(Probe):
    """Adds up the branches of every chunk's velocity, step by step, over one video."""

    def __init__(self, guidance: Mapping[str, float]) -> None:
        self.sigmas: Sequence[float] = ()
        self._guidance = guidance
        self._steps: dict[int, dict[int, torch.Tensor]] = defaultdict(dict)
        self._engine: Engine | None = None

    def attach(self, hook: Any) -> None:
        """Watch a video, by its cache's hook."""
        self._engine = hook.engine
        hook.engine.probe = self

    def committed(self, decision: Decision, state: ChunkState) -> None:
        call = decision.call
        if call.kv_only is not None or not state.outputs:
            return
        assert self._engine is not None
        assert isinstance(self._engine.policy, ForecastCache)
        self.sigmas = self._engine.policy.profile.sigmas
        steps, step = self._steps[call.chunk], call.step
        guided = self._guidance[call.branch] * state.outputs[0].double().cpu().flatten()
        steps[step] = steps[step] + guided if step in steps else guided

    def products(self) -> dict[int, Array]:
        """Mean products of the velocities of every chunk that was denoised, `[steps, steps]`."""
        chunks = {chunk: torch.stack([steps[step] for step in sorted(steps)]) for chunk, steps in self._steps.items()}
        return {chunk: velocity_products(velocities.numpy()) for chunk, velocities in chunks.items()}

    def values(self) -> int:
        """Of a chunk's latents."""
        return next(iter(next(iter(self._steps.values())).values())).numel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """A video with every step computed.

    Attributes:
        latents: in the end.
        products: see `GuidedVelocities`.
        values: of a chunk's latents.
        sigmas: noise level of each denoise step.
    """

    job: Any
    latents: torch.Tensor
    products: dict[int, Array]
    values: int
    sigmas: tuple[float, ...]


class OneForecast(Probe):
    """Puts a forecast in place of one chunk's velocity at one step of a video that is computed in full."""

    def __init__(self, chunk: int, step: int, known: Sequence[int], coefficients: Sequence[float]) -> None:
        self._chunk, self._step, self._known, self._coefficients = chunk, step, known, coefficients
        self._velocities: dict[tuple[str, int], torch.Tensor] = {}

    def attach(self, hook: Any) -> None:
        """Take part in a video, by its cache's hook."""
        hook.engine.probe = self

    def computed(self, decision: Decision, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        call = decision.call
        if call.kv_only is not None or call.chunk != self._chunk:
            return after
        if call.step in self._known:
            self._velocities[call.branch, call.step] = after - before
        if call.step != self._step:
            return after
        earlier = [self._velocities[call.branch, step] for step in self._known]
        return before + sum(c * v for c, v in zip(self._coefficients, earlier, strict=True))


def sample_exact(model: BenchModel, job: Any) -> Exact:
    """One window, in which every step is computed.

    Raises:
        MotionCacheError: for videos that no calibration can be made from.
    """
    velocities = GuidedVelocities(model.guidance(job))
    method = Method(name="every step", policy=ForecastConfig(target_speedup=1.0))
    sample = model.take(job, method, prepare=velocities.attach).sample
    if len(sample.trace.windows if sample.trace else ()) != 1:
        raise MotionCacheError("a calibration needs videos of one window: pass a smaller num_frames")
    sigmas = tuple(velocities.sigmas)
    if not all(a > b for a, b in pairwise(sigmas)):
        raise MotionCacheError("two steps have the same noise level: pass a smaller num_inference_steps")
    print(f"{job.prompt}: {sample.seconds:.1f} s, {len(sigmas)} steps", flush=True)
    return Exact(
        job=job, latents=sample.latents, products=velocities.products(), values=velocities.values(), sigmas=sigmas
    )


def sensitivity_of(model: BenchModel, exact: Exact, chunk: int, steps: Sequence[int], forecast: Forecast) -> Array:
    """What the error that a forecast of a single step brings into a chunk becomes in the whole video, `[steps]`."""
    method = Method(name="one forecast", policy=ForecastConfig(target_speedup=1.0))
    own, ratios = exact.products[chunk], []
    for step in steps:
        known = list(range(step - 1, max(step - 3, -1), -1))
        coefficients = forecast.coefficients(step, known)
        replaced = OneForecast(chunk, step, known, coefficients)
        latents = model.take(exact.job, method, prepare=replaced.attach).sample.latents
        final = float((latents - exact.latents).double().square().sum()) / exact.values
        shares, taken = np.array([1.0, *(-c for c in coefficients)]), [step, *known]
        brought_in = float(shares @ own[np.ix_(taken, taken)] @ shares) * forecast.lengths[step] ** 2
        ratios.append(final / brought_in)
    print(f"{exact.job.prompt}, chunk {chunk}: {' '.join(f'{ratio:.3g}' for ratio in ratios)}", flush=True)
    return np.array(ratios)


def calibrate(model: BenchModel, prompts: Sequence[str]) -> Calibration:
    """Sample the prompts, each with a seed of its own, and measure.

    Raises:
        MotionCacheError: for too few steps, or videos that no calibration can be made from.
    """
    jobs = [
        replace(model.job, prompt=prompt, seed=model.job.seed + FIRST_SEED + index)
        for index, prompt in enumerate(prompts)
    ]
    count = model.job.num_inference_steps
    if count < LEAST_STEPS:
        raise MotionCacheError(
            f"a calibration needs {LEAST_STEPS} steps at least, not {count}: raise num_inference_steps"
        )
    shorter = sample_shorter(model, jobs)
    exact = [sample_exact(model, job) for job in jobs]
    products = np.mean([chunk for video in exact for chunk in video.products.values()], axis=0)
    sigmas = exact[0].sigmas
    made = Calibration(model=model.identity, sigmas=sigmas, products=products, sensitivity=np.ones(len(sigmas)))
    return replace(made, sensitivity=measure_sensitivity(model, shorter, made))


def sample_shorter(model: BenchModel, jobs: Sequence[Any]) -> list[Exact]:
    """With half as many steps, or with all where the model does not take half."""
    half = [replace(job, num_inference_steps=job.num_inference_steps // 2) for job in jobs]
    try:
        first = sample_exact(model, half[0])
    except ConfigError as error:
        print(f"{error}: measuring with all {jobs[0].num_inference_steps} steps", flush=True)
        half = list(jobs)
        first = sample_exact(model, half[0])
    return [first, *(sample_exact(model, job) for job in half[1:])]


def measure_sensitivity(model: BenchModel, videos: Sequence[Exact], made: Calibration) -> Array:
    """From the mean over the videos of how many times larger an error becomes.

    In each video, steps of another chunk are forecast. Some are measured, at equal distances; the others lie between
    them. A mean of squares would be decided by the one video that turns into another; one of logarithms would overlook
    it.
    """
    sigmas = videos[0].sigmas
    steps = np.unique(np.linspace(1, len(sigmas) - 1, MEASURED_STEPS).round().astype(int)).tolist()
    forecast, ratios = made.at(sigmas, 2), []
    for index, video in enumerate(videos):
        chunks = list(video.products)
        ratios.append(sensitivity_of(model, video, chunks[index % len(chunks)], steps, forecast))
    measured = np.exp(np.interp(np.arange(len(sigmas)), steps, 2 * np.log(np.sqrt(ratios).mean(axis=0))))
    return sensitivity_between(sigmas, measured, made.sigmas)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m motioncache_eval.calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="skyreels-v2, magi-1, or another one that is installed")
    parser.add_argument("job", type=Path, help="the main job's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the main job")
    parser.add_argument("--prompts", type=Path, help=f"text file, a prompt a line; the job's own {OWN} times without")
    parser.add_argument("--output", type=Path, required=True, help="the JSON to write")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Load, sample, write."""
    check_output_file(options.output)
    prompts = None if options.prompts is None else read_prompts(options.prompts)
    own = [] if prompts is None else [f"prompt={prompts[0]}"]
    model = find_loader(options.model)(options.job, [*options.overrides, *own])
    calibrate(model, prompts or [model.job.prompt] * OWN).save(options.output)
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
