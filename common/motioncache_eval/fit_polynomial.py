"""Fits the distance polynomial of a checkpoint, for the `fit_polynomial` of each model's package.

Some prompts are sampled with every step computed. Each denoise step gives one point: the relative change of the time
modulation, which needs no run of the model, and the relative change of the residual, as a mean over prompts, chunks and
CFG branches. The polynomial is fitted to these points and predicts the second change from the first.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from motioncache.api import cached, get_hook
from motioncache.decision import ChunkState, Decision
from motioncache.distance import relative_l1
from motioncache.errors import MotionCacheError
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache.policies.none import NoCache
from motioncache.probe import Probe
from motioncache_eval.command import check_output_file, run_command
from motioncache_eval.jobs import JobModel, LoadedJob
from motioncache_eval.prompts import read_prompts
from motioncache_eval.report import write_json

RELATIVE_CHANGE = MotionCacheConfig(coefficients=(1.0, 0.0), clamp_distance=False, chunk_phase_updates=None)
"""With it, the step distance is the relative change of the modulation itself."""


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
    """Measures the relative change of the modulation and of each chunk's residual, from step to step.

    Attributes:
        modulation: the changes of the schedule, by denoise step.
        by_step: the changes of the residuals of all chunks, branches and videos, by denoise step.
    """

    def __init__(self) -> None:
        self.modulation: dict[int, float] = {}
        self.by_step: dict[int, list[float]] = defaultdict(list)
        self._last: dict[tuple[str, int], torch.Tensor] = {}

    def committed(self, decision: Decision, state: ChunkState) -> None:
        call = decision.call
        if call.kv_only is not None or not state.outputs:
            return
        key, residual = (call.branch, call.chunk), state.outputs[0]
        if call.step > 0:
            self.modulation[call.step] = float(call.distance)
            self.by_step[call.step].append(float(relative_l1(residual, self._last[key])))
        self._last[key] = residual


def fit_model(loaded: LoadedJob, prompts: Sequence[str], *, degree: int = 4) -> PolynomialFit:
    """Sample the prompts, and fit the polynomial to what was measured."""
    changes, job = ResidualChanges(), loaded.job
    for i, prompt in enumerate(prompts):
        with cached(loaded.pipeline, RELATIVE_CHANGE, adapter=loaded.adapter):
            engine = get_hook(loaded.pipeline).engine
            engine.policy, engine.probe = StoreResidual(), changes
            loaded.call(loaded.pipeline, replace(job, prompt=prompt, seed=job.seed + i), lambda: None)
    steps, config = sorted(changes.by_step), loaded.pipeline.transformer.config
    return fit(
        [changes.modulation[s] for s in steps],
        [float(np.mean(changes.by_step[s])) for s in steps],
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


def main(model: JobModel, package: str, arguments: list[str] | None) -> int:
    """The command `python -m PACKAGE.fit_polynomial` of a model."""
    prog = f"python -m {package}.fit_polynomial"
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder or hub id")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="sizes, steps, device, dtype: as in a job")
    default = model.config if model.config.is_file() else None
    parser.add_argument("--config", type=Path, default=default, help="YAML file with the other settings")
    parser.add_argument("--prompts", type=Path, help="text file with one prompt a line (default: the config's prompt)")
    parser.add_argument("--degree", type=int, default=4, help="degree of the polynomial")
    parser.add_argument("--output", type=Path, help="JSON file for the points and the fit")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(model, options))


def run(model: JobModel, options: argparse.Namespace) -> int:
    """Load the model, fit the polynomial, and print the points and the row."""
    if options.output:
        check_output_file(options.output)
    prompts = read_prompts(options.prompts) if options.prompts else []
    prompt = [f"prompt={prompts[0]}"] if prompts else []
    job = model.read(options.config, [*options.overrides, f"model={options.model}", *prompt])
    prompts = prompts or [job.prompt]
    result = fit_model(model.load(job), prompts, degree=options.degree)
    print("step  modulation  residual  fitted")
    points = zip(result.change, result.residual_change, result.fitted, strict=True)
    for step, point in enumerate(points, start=1):
        print("{:4d}  {:10.5f}  {:8.4f}  {:6.4f}".format(step, *point))
    print(f"R^2 {result.r_squared:.3f} over {len(prompts)} prompts; the row for `polynomials:` of the presets:\n")
    print(yaml_row(result, f"fit_polynomial, {job.num_inference_steps} steps, {len(prompts)} prompts"))
    if options.output:
        write_json(options.output, asdict(result))
    return 0
