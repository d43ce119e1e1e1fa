"""Measure a model for `forecast`: `motioncache calibrate MODEL JOB --output FILE [--prompts FILE]`.

Some videos are sampled with every step computed; they give the mean products of a chunk's velocities at any two denoise
steps. In others, one step of one chunk is forecast; they show how much its error changes the video. This takes as long
as about eight uncached videos for each prompt, or twice that if the model cannot be sampled with half the number of
steps; the command says how many before it starts, and the time left after each. What it has measured lies in
FILE.progress until FILE is written, and the same command goes on with it. A calibration serves as many steps as it was
measured with or fewer, videos of all lengths, and the guidance scale of the job.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from motioncache.errors import ConfigError, MotionCacheError
from motioncache.forecast.budget import ForecastConfig
from motioncache.forecast.calibration import Calibration, sensitivity_between
from motioncache.forecast.guided import measured_products
from motioncache.forecast.prediction import Array, Forecast
from motioncache_eval.bench.config import Method, job_settings
from motioncache_eval.bench.model import BenchModel, find_loader
from motioncache_eval.calibration_progress import Arrays, NoProgress, Progress
from motioncache_eval.command import check_output_file, run_command
from motioncache_eval.progress import progress_bar, say
from motioncache_eval.prompts import read_prompts
from motioncache_eval.settings import require_path, require_seed
from motioncache_eval.velocity_probes import GuidedVelocities, OneForecast

OWN_PROMPT_VIDEOS = 4
"""Videos of the job's own prompt that are sampled if no prompts are passed."""

MEASURED_STEPS = 12
"""Steps whose sensitivity is measured."""

FEWEST_STEPS = 8
"""The sensitivity is measured with half of the steps, and fewer than four would say little."""

FIRST_SEED = 1000
"""Added to the job's seed, so that no benchmark has the same noise."""

EVERYTHING_COMPUTED = Method(name="everything computed", policy=ForecastConfig(target_speedup=1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """A video with every step computed.

    Attributes:
        latents: the final latents.
        found: by chunk, see `GuidedVelocities.products`.
        values_per_chunk: the number of values in a chunk's latents.
        sigmas: noise level of each denoise step.
    """

    job: Any
    latents: torch.Tensor
    found: dict[int, Array]
    values_per_chunk: int
    sigmas: tuple[float, ...]


def calibrate(model: BenchModel, prompts: Sequence[str], progress: Progress | None = None) -> Calibration:
    """Sample the prompts, each with its own seed, and measure.

    Args:
        progress: keeps what is measured, and has what was measured before; None for neither.

    Raises:
        MotionCacheError: for too few steps, or for videos that no calibration can be made from.
    """
    jobs, progress = jobs_of(model.job, prompts), progress or NoProgress()
    shorter = sample_shorter(model, jobs, progress)
    videos = [kept_exact(progress, f"exact-{index}", model, job) for index, job in enumerate(jobs)]
    found = np.mean([found for video in videos for found in video.found.values()], axis=0)
    products, parts = measured_products(found, model.guidance(model.job))
    sigmas = videos[0].sigmas
    calibration = Calibration(
        model=model.identity, sigmas=sigmas, products=products, sensitivity=np.ones(len(sigmas)), parts=parts
    )
    return replace(calibration, sensitivity=measure_sensitivity(model, shorter, calibration, progress))


def jobs_of(job: Any, prompts: Sequence[str]) -> list[Any]:
    """A video of each prompt.

    Raises:
        MotionCacheError: for too few steps, or a seed that leaves no room.
    """
    steps = job.num_inference_steps
    if steps < FEWEST_STEPS:
        raise MotionCacheError(
            f"a calibration needs {FEWEST_STEPS} steps at least, not {steps}: raise num_inference_steps"
        )
    require_seed(job.seed + FIRST_SEED + len(prompts) - 1)
    return [replace(job, prompt=prompt, seed=job.seed + FIRST_SEED + index) for index, prompt in enumerate(prompts)]


def kept_exact(progress: Progress, name: str, model: BenchModel, job: Any) -> Exact:
    """See `sample_exact`."""

    def make() -> Arrays:
        video = sample_exact(model, job)
        return {
            "latents": video.latents.float().cpu().numpy(),
            "sigmas": np.array(video.sigmas),
            "values_per_chunk": np.array(video.values_per_chunk),
            **{f"found-{chunk}": one for chunk, one in video.found.items()},
        }

    kept = progress.arrays(name, make)
    return Exact(
        job=job,
        latents=torch.from_numpy(kept["latents"]),
        found={int(key[6:]): one for key, one in kept.items() if key.startswith("found-")},
        sigmas=tuple(kept["sigmas"].tolist()),
        values_per_chunk=int(kept["values_per_chunk"]),
    )


def sample_exact(model: BenchModel, job: Any) -> Exact:
    """Sample a video of one window with every step computed.

    Raises:
        MotionCacheError: for a video that no calibration can be made from.
    """
    velocities = GuidedVelocities(model.guidance(job))
    sample = model.take(job, EVERYTHING_COMPUTED, prepare=velocities.attach).sample
    if len(sample.trace.windows if sample.trace else ()) != 1:
        raise MotionCacheError("a calibration needs videos of one window: pass a smaller num_frames")
    sigmas = tuple(velocities.sigmas)
    if not all(a > b for a, b in pairwise(sigmas)):
        raise MotionCacheError("two steps have the same noise level: pass a smaller num_inference_steps")
    found = velocities.products()
    if not all(np.isfinite(values).all() for values in (sample.latents.float().cpu().numpy(), *found.values())):
        raise MotionCacheError(f"the video of {job.prompt!r} has NaN or infinite values: pass another dtype or prompt")
    say(f"{job.prompt}: {sample.seconds:.1f} s, {len(sigmas)} steps")
    return Exact(
        job=job,
        latents=sample.latents,
        found=found,
        values_per_chunk=velocities.values_per_chunk,
        sigmas=sigmas,
    )


def sample_shorter(model: BenchModel, jobs: Sequence[Any], progress: Progress) -> list[Exact]:
    """Sample the jobs with half as many steps, or with all if the model cannot be sampled with half."""
    shorter = [replace(job, num_inference_steps=job.num_inference_steps // 2) for job in jobs]
    try:
        first = kept_exact(progress, "shorter-0", model, shorter[0])
    except ConfigError as error:
        say(f"{error}: measuring with all {jobs[0].num_inference_steps} steps")
        shorter = list(jobs)
        first = kept_exact(progress, "shorter-0", model, shorter[0])
    others = [kept_exact(progress, f"shorter-{index}", model, job) for index, job in enumerate(shorter[1:], start=1)]
    return [first, *others]


def measure_sensitivity(
    model: BenchModel, videos: Sequence[Exact], calibration: Calibration, progress: Progress
) -> Array:
    """How many times larger the error of a step becomes in the final latents, for each sigma of the calibration.

    In each video, steps of another chunk are forecast. Steps at equal distances are measured, and the others
    interpolated. The mean over the videos is that of square roots: the one video that turns into another would decide a
    mean of squares, and would hardly count in a mean of logarithms.
    """
    sigmas = videos[0].sigmas
    steps = np.unique(np.linspace(1, len(sigmas) - 1, MEASURED_STEPS).round().astype(int)).tolist()
    forecast = calibration.at(sigmas, 2)
    growths: list[list[float]] = []  # one row of [steps] for each video
    for index, video in enumerate(videos):
        chunks = list(video.found)
        chunk = chunks[index % len(chunks)]
        growth = partial(error_growth, model, video, chunk, forecast=forecast)
        growths.append([progress.number(f"growth-{index}-{step}", partial(growth, step)) for step in steps])
        say(f"{video.job.prompt}, chunk {chunk}: {' '.join(f'{growth:.3g}' for growth in growths[-1])}")
    log_means = 2 * np.log(np.sqrt(np.array(growths)).mean(axis=0))
    measured = np.exp(np.interp(np.arange(len(sigmas)), steps, log_means))
    return sensitivity_between(sigmas, measured, calibration.sigmas)


def error_growth(model: BenchModel, exact: Exact, chunk: int, step: int, forecast: Forecast) -> float:
    """How many times larger the squared error of one forecast is in the end.

    The error of the video's final latents is divided by the one that the forecast step brings into the chunk's latents.
    """
    earlier = list(range(step - 1, max(step - 3, -1), -1))
    coefficients = forecast.coefficients(step, earlier)
    probe = OneForecast(chunk, step, earlier, coefficients)
    latents = model.take(exact.job, EVERYTHING_COMPUTED, prepare=probe.attach).sample.latents
    final_error = float((latents.float().cpu() - exact.latents).double().square().sum()) / exact.values_per_chunk
    # The velocity minus its forecast is a sum of velocities with these factors.
    factors = np.array([1.0, *(-c for c in coefficients)])
    summed = [step, *earlier]
    products, _ = measured_products(exact.found[chunk], model.guidance(exact.job))
    velocity_error = float(factors @ products[np.ix_(summed, summed)] @ factors)
    if velocity_error <= 0:
        raise MotionCacheError(
            f"the velocity of chunk {chunk} at step {step} is its forecast, so its error cannot be measured: pass "
            "other prompts or a smaller num_inference_steps"
        )
    return final_error / (velocity_error * forecast.lengths[step] ** 2)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="motioncache calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="skyreels-v2, magi-1, or another model that is installed")
    parser.add_argument("job", type=Path, help="YAML file of a demo, such as addconfig/config.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the job")
    parser.add_argument(
        "--prompts",
        type=Path,
        help=f"text file with one prompt a line (default: the job's own prompt, {OWN_PROMPT_VIDEOS} times)",
    )
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Load the model, measure it, and write the calibration."""
    require_path("--output", str(options.output))
    check_output_file(options.output)
    prompts = [] if options.prompts is None else read_prompts(options.prompts)
    overrides = list(options.overrides)
    if prompts and any(text.startswith("prompt=") for text in overrides):
        raise ConfigError("prompt=... and --prompts both say what to sample: leave one out")
    if prompts:
        overrides.append(f"prompt={prompts[0]}")
    model = find_loader(options.model)(options.job, overrides)
    prompts = prompts or [model.job.prompt] * OWN_PROMPT_VIDEOS
    jobs = jobs_of(model.job, prompts)
    settings = {"jobs": [job_settings(job) for job in jobs], "weights": model.weights, "kept": "found"}
    progress = Progress(options.output, settings)
    state_cost(model.job, len(prompts), progress)
    with progress_bar(all_steps(model.job, len(prompts)), unit="steps") as bar:
        calibrate(with_progress(model, bar, len(prompts)), prompts, progress).save(options.output)
    progress.remove()
    say(str(options.output))
    return 0


def state_cost(job: Any, videos: int, progress: Progress) -> None:
    """Say what is sampled, before anything is."""
    steps = all_steps(job, videos)
    whole = steps / job.num_inference_steps
    done = f"; {progress.count} measurements are there already" if progress.count else ""
    say(
        f"calibrating with {videos} videos: {steps} denoise steps, all computed, which is the work of {whole:.0f} "
        f"videos with {job.num_inference_steps} steps{done}. What is measured lies in {progress.folder} until the end: "
        "after an interrupt the same command goes on"
    )


def with_progress(model: BenchModel, bar: Any, videos: int) -> BenchModel:
    """The model, which moves the bar by the denoise steps of each video; see `all_steps` for how many there are."""

    def call(pipeline: Any, job: Any, first_chunk_done: Callable[[], None]) -> torch.Tensor:
        try:
            latents = model.call(pipeline, job, first_chunk_done)
        except ConfigError:  # half of the steps cannot be sampled
            bar.total = all_steps(model.job, videos, halved=False)
            raise
        bar.update(job.num_inference_steps)
        return latents

    return replace(model, call=call)


def all_steps(job: Any, videos: int, *, halved: bool = True) -> int:
    """Denoise steps of all videos that a calibration samples.

    Each of the videos is sampled once whole, once shorter, and the shorter one again for each forecast.
    """
    steps = job.num_inference_steps
    shorter = steps // 2 if halved else steps
    return videos * (steps + (1 + min(MEASURED_STEPS, shorter - 1)) * shorter)


if __name__ == "__main__":
    sys.exit(main())
