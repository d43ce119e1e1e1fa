"""Runs a benchmark: prompt by prompt, the reference first, then every method that has no result yet."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from motioncache.errors import MotionCacheError
from motioncache_eval.bench.benchmark import Benchmark
from motioncache_eval.bench.cell import Measured, Reference, error_text, job_of, measure
from motioncache_eval.bench.config import REFERENCE, Method, fingerprint
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.tune import expand_methods
from motioncache_eval.report import write_json


def run_benchmark(
    bench: BenchModel, benchmark: Benchmark, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each result that is made, with its path; cells that have a result are skipped.

    A method that raises leaves `{"error": ...}` in its cell, which counts as missing at the next run.

    Args:
        share: (i, n) takes every n-th of the prompts, from the i-th on.
    """
    methods = sorted(expand_methods(bench, benchmark), key=lambda method: method.name != REFERENCE)
    _check_same_settings(bench, benchmark, methods)
    for index in range(len(benchmark.prompts))[share[0] :: share[1]]:
        yield from _run_prompt(bench, benchmark, methods, index)


def _run_prompt(
    bench: BenchModel, benchmark: Benchmark, methods: Sequence[Method], index: int
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Measure what one prompt lacks; the first of the methods is the reference."""
    config, output = benchmark.config, Path(benchmark.config.output)
    missing = _missing(output, methods, index)
    if not missing:
        return
    reference = None if missing[0].name == REFERENCE else _read_reference(output, index)
    if reference is None:
        missing = [methods[0], *(method for method in missing if method.name != REFERENCE)]
    for method in missing:
        try:
            measured = measure(
                bench,
                method,
                benchmark.prompts[index],
                index,
                repeats=config.repeats,
                noise=_noise_path(output, index),
                reference=reference,
                shown=index < config.shown,
            )
        except Exception as error:
            if method.name == REFERENCE:
                raise
            result = {"method": method.name, "prompt": benchmark.prompts[index], "error": error_text(error)}
        else:
            result, reference = measured.result, reference or measured.video
            _write_videos(output, method, index, measured)
        path = cell_path(output, method.folder, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        yield path, result


def _missing(output: Path, methods: Sequence[Method], index: int) -> list[Method]:
    """The methods that are measured on a prompt, and have no result for it yet."""
    measured_here = [method for method in methods if method.count is None or index < method.count]
    return [method for method in measured_here if not is_complete(cell_path(output, method.folder, index))]


def _write_videos(output: Path, method: Method, index: int, measured: Measured) -> None:
    """The reference, for later runs, and what the page shows."""
    if method.name == REFERENCE:
        _write_reference(output, index, measured.video)
    if measured.view is not None:
        path = view_path(output, method.folder, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measured.view)


def _check_same_settings(bench: BenchModel, benchmark: Benchmark, methods: Sequence[Method]) -> None:
    """Refuse to mix results of different settings in one folder."""
    output = Path(benchmark.config.output)
    for method in methods:
        for index, prompt in enumerate(benchmark.prompts):
            path = cell_path(output, method.folder, index)
            measured_as = read_cell(path).get("fingerprint")
            if measured_as not in (None, fingerprint(bench.settings(job_of(bench, method, prompt, index), method))):
                raise MotionCacheError(
                    f"{path} was made with other settings; delete {path.parent} to measure {method.name!r} again, or "
                    "pass output=... for a new folder"
                )


def cell_path(output: Path, folder: str, index: int) -> Path:
    """The file of a method's result for a prompt."""
    return output / "cells" / folder / f"{index:03d}.json"


def view_path(output: Path, folder: str, index: int) -> Path:
    """The file of a method's video for the page."""
    return output / "views" / folder / f"{index:03d}.json"


def read_cell(path: Path) -> dict[str, Any]:
    """A result, or `{"error": ...}` for one that cannot be read."""
    try:
        cell = json.loads(path.read_text())
        return cell if isinstance(cell, dict) else {"error": f"{path.name} holds no result"}
    except FileNotFoundError:
        return {"error": "not measured yet"}
    except (OSError, ValueError) as error:
        return {"error": f"{path.name} cannot be read: {error}"}


def is_complete(path: Path) -> bool:
    """Whether a cell holds a result."""
    return "error" not in read_cell(path)


def _noise_path(output: Path, index: int) -> Path:
    return output / "noise" / f"{index:03d}.safetensors"


def _reference_path(output: Path, index: int) -> Path:
    return output / "references" / f"{index:03d}.safetensors"


def _write_reference(output: Path, index: int, reference: Reference) -> None:
    path = _reference_path(output, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    tensors = {"latents": reference.latents.float(), "frames": reference.frames}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary)
    temporary.replace(path)


def _read_reference(output: Path, index: int) -> Reference | None:
    """The stored reference; None where it is missing or cannot be read, and so has to be sampled."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(_reference_path(output, index))
        return Reference(latents=tensors["latents"], frames=tensors["frames"])
    except Exception:
        return None
