"""Fit the distance polynomial of a checkpoint: `python -m motioncache_skyreels.fit_polynomial MODEL [key=value ...]`.

Some prompts are sampled with every step computed. Each denoise step gives one point: the relative change of the time
modulation, which needs no run of the model, and the relative change of the residual, as a mean over prompts, chunks and
CFG branches. The polynomial is fitted to these points and predicts the second change from the first.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline

from motioncache.api import cached, get_hook
from motioncache.decision import ChunkState, Decision
from motioncache.distance import relative_l1
from motioncache.errors import MotionCacheError
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache.policies.none import NoCache, NoCacheConfig
from motioncache.probe import Probe
from motioncache.step_distance import StepDistance
from motioncache_diffusers.terminal import run_command
from motioncache_eval.command import check_output_file
from motioncache_eval.report import write_json
from motioncache_skyreels.cli import load_model, model_parser
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.sample import run_pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialFit:
    """A fitted polynomial and the points behind it, one for each denoise step but the first.

    Attributes:
        layers, width: size of the transformer.
        coefficients: highest power first.
        fit_range: smallest and largest `change`.
        r_squared: share of the variance of `residual_change` over the steps that the polynomial explains.
        change: relative change of the modulation.
        residual_change: relative change of the residual.
        fitted: what the polynomial predicts for `residual_change`.
    """

    layers: int
    width: int
    coefficients: tuple[float, ...]
    fit_range: tuple[float, float]
    r_squared: float
    change: tuple[float, ...]
    residual_change: tuple[float, ...]
    fitted: tuple[float, ...]


class StoreResidual(NoCache):
    """Computes every step, and lets the engine store the residual."""

    history = 1


class ResidualChanges(Probe):
    """Measures the relative change of each chunk's residual from step to step.

    Attributes:
        by_step: the changes of all chunks, branches and videos, by denoise step.
    """

    def __init__(self) -> None:
        self.by_step: dict[int, list[float]] = defaultdict(list)
        self._last: dict[tuple[str, int], torch.Tensor] = {}

    def committed(self, decision: Decision, state: ChunkState) -> None:
        call = decision.call
        if call.kv_only is not None or not state.outputs:
            return
        key, residual = (call.branch, call.chunk), state.outputs[0]
        if call.step > 0:
            self.by_step[call.step].append(float(relative_l1(residual, self._last[key])))
        self._last[key] = residual


def fit_model(
    pipeline: SkyReelsV2DiffusionForcingPipeline, job: JobConfig, prompts: Sequence[str], *, degree: int = 4
) -> PolynomialFit:
    """Sample the prompts, and fit the polynomial to what was measured."""
    changes = ResidualChanges()
    for i, prompt in enumerate(prompts):
        with cached(pipeline, NoCacheConfig()):
            engine = get_hook(pipeline).engine
            engine.policy, engine.probe = StoreResidual(), changes
            run_pipeline(pipeline, replace(job, prompt=prompt, seed=job.seed + i))
    timesteps = pipeline.scheduler.timesteps.long().tolist()
    uses_fps = pipeline.transformer.config.inject_sample_info
    distance = StepDistance(pipeline.transformer, MotionCacheConfig(), int(job.fps != 16) if uses_fps else None)
    steps = sorted(changes.by_step)
    change = [distance.relative_change((timesteps[s - 1],), (timesteps[s],)) for s in steps]
    residual_change = [float(np.mean(changes.by_step[s])) for s in steps]
    config = pipeline.transformer.config
    return fit(
        change,
        residual_change,
        degree=degree,
        layers=config.num_layers,
        width=config.num_attention_heads * config.attention_head_dim,
    )


def fit(
    change: Sequence[float], residual_change: Sequence[float], *, degree: int, layers: int, width: int
) -> PolynomialFit:
    """Fit a polynomial by least squares over the steps."""
    if len(change) <= degree:
        raise MotionCacheError(
            f"{len(change)} steps are too few for a polynomial of degree {degree}; pass a larger num_inference_steps"
        )
    polynomial = np.polynomial.Polynomial.fit(change, residual_change, degree)
    fitted = polynomial(np.array(change))
    errors = np.square(np.array(residual_change) - fitted).sum()
    variance = np.square(np.array(residual_change) - np.mean(residual_change)).sum()
    return PolynomialFit(
        layers=layers,
        width=width,
        coefficients=tuple(float(f"{c:.9g}") for c in reversed(polynomial.convert().coef)),
        fit_range=(float(f"{min(change):.6g}"), float(f"{max(change):.6g}")),
        r_squared=float(1 - errors / variance),
        change=tuple(change),
        residual_change=tuple(residual_change),
        fitted=tuple(float(value) for value in fitted),
    )


def yaml_row(result: PolynomialFit, source: str) -> str:
    """The row for `polynomials:` in the presets file."""
    coefficients = ", ".join(f"{c:.9g}" for c in result.coefficients)
    low, high = result.fit_range
    return (
        f"  - layers: {result.layers}\n    width: {result.width}\n    coefficients: [{coefficients}]\n"
        f"    fit_range: [{low:.6g}, {high:.6g}]\n    source: {source}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = model_parser("python -m motioncache_skyreels.fit_polynomial", __doc__)
    parser.add_argument("--degree", type=int, default=4, help="degree of the polynomial")
    parser.add_argument("--output", type=Path, help="JSON file for the points and the fit")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Load the model, fit the polynomial, and print the points and the row."""
    if options.output:
        check_output_file(options.output)
    pipeline, job, prompts = load_model(options)
    result = fit_model(pipeline, job, prompts, degree=options.degree)
    print("step  modulation  residual  fitted")
    points = zip(result.change, result.residual_change, result.fitted, strict=True)
    for step, point in enumerate(points, start=1):
        print("{:4d}  {:10.5f}  {:8.4f}  {:6.4f}".format(step, *point))
    print(f"R^2 {result.r_squared:.3f} over {len(prompts)} prompts; the row for `polynomials:` of the presets:\n")
    print(yaml_row(result, f"fit_polynomial, {job.num_inference_steps} steps, {len(prompts)} prompts"))
    if options.output:
        write_json(options.output, asdict(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
