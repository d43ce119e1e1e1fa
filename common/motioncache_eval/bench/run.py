"""Runs a benchmark: prompt by prompt, the reference first, then every method that has no result yet."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file
from motioncache_eval.bench.benchmark import Benchmark
from motioncache_eval.bench.cell import Measured, Reference, error_text, job_of, measure
from motioncache_eval.bench.config import REFERENCE, Method, fingerprint
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.results import cell_path, is_complete, noise_path, read_cell, reference_path, view_path
from motioncache_eval.bench.tune import expand_methods
from motioncache_eval.report import write_json


def missing_cells(
    bench: BenchModel, benchmark: Benchmark, share: tuple[int, int] = (0, 1)
) -> dict[int, Sequence[Method]]:
    """By prompt, the methods that have no result yet, the reference first; prompts that miss nothing are left out.

    The reference is among them where its video is lost.

    Args:
        share: (i, n) takes every n-th of the prompts, from the i-th on.

    Raises:
        MotionCacheError: for results of other settings in the same folder.
    """
    methods = sorted(expand_methods(bench, benchmark), key=lambda method: method.name != REFERENCE)
    check_same_settings(bench, benchmark, methods)
    found = {
        index: _missing(Path(benchmark.config.output), methods, index)
        for index in range(len(benchmark.prompts))[share[0] :: share[1]]
    }
    return {index: missing for index, missing in found.items() if missing}


def _missing(output: Path, methods: Sequence[Method], index: int) -> list[Method]:
    """The methods that are to be measured on a prompt; the first of `methods` is the reference."""
    measured_here = [method for method in methods if method.count is None or index < method.count]
    missing = [method for method in measured_here if not is_complete(cell_path(output, method.folder, index))]
    if missing and missing[0].name != REFERENCE and _read_reference(output, index) is None:
        return [methods[0], *missing]
    return missing


def run_benchmark(
    bench: BenchModel, benchmark: Benchmark, missing: Mapping[int, Sequence[Method]]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Measure what is missing, prompt by prompt, and yield each result with its path.

    A method that raises leaves `{"error": ...}` in its cell, which counts as missing at the next run. Where the
    reference raises, there is nothing to compare with, and the other methods are not measured on that prompt.

    Args:
        missing: see `missing_cells`.
    """
    output = Path(benchmark.config.output)
    for index, methods in missing.items():
        reference = None if methods[0].name == REFERENCE else _read_reference(output, index)
        for method in methods:
            result, video = _run_cell(bench, benchmark, method, index, reference)
            reference = reference or video
            path = cell_path(output, method.folder, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, result)
            yield path, result
            if reference is None:
                break


def _run_cell(
    bench: BenchModel, benchmark: Benchmark, method: Method, index: int, reference: Reference | None
) -> tuple[dict[str, Any], Reference | None]:
    """What the cell holds, and the video; none if the method raises."""
    config, prompt, output = benchmark.config, benchmark.prompts[index], Path(benchmark.config.output)
    try:
        measured = measure(
            bench,
            method,
            prompt,
            index,
            repeats=config.repeats,
            noise=noise_path(output, index),
            reference=reference,
            shown=index < config.shown,
        )
    except Exception as error:
        return {"method": method.name, "prompt": prompt, "error": error_text(error)}, None
    _write_videos(output, method, index, measured)
    return measured.result, measured.video


def _write_videos(output: Path, method: Method, index: int, measured: Measured) -> None:
    """The reference, for later runs, and what the page shows."""
    if method.name == REFERENCE:
        _write_reference(output, index, measured.video)
    if measured.view is not None:
        path = view_path(output, method.folder, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measured.view)


def check_same_settings(bench: BenchModel, benchmark: Benchmark, methods: Sequence[Method]) -> None:
    """Refuse to mix results of different settings in one folder."""
    output = Path(benchmark.config.output)
    for method in methods:
        for index, prompt in enumerate(benchmark.prompts):
            path = cell_path(output, method.folder, index)
            measured_as = read_cell(path).get("fingerprint")
            if measured_as not in (None, fingerprint(bench.settings(job_of(bench, method, prompt, index), method))):
                raise MotionCacheError(
                    f"{path} was made with other settings; {_to_delete(output, method)} again, or pass output=... for "
                    "a new folder"
                )


def _to_delete(output: Path, method: Method) -> str:
    """What to delete so that a method can be measured again, and what that measures."""
    if method.name != REFERENCE:
        return f"delete {cell_path(output, method.folder, 0).parent} to measure {method.name!r}"
    noise = noise_path(output, 0).parent
    return f"delete {output / 'cells'} and {noise} to measure all methods, which are compared with {REFERENCE!r},"


def _write_reference(output: Path, index: int, reference: Reference) -> None:
    path = reference_path(output, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"latents": reference.latents.float(), "frames": reference.frames}
    with whole_file(path) as temporary:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary)


def _read_reference(output: Path, index: int) -> Reference | None:
    """The stored reference; None where it is missing or cannot be read, and so has to be sampled."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(reference_path(output, index))
        return Reference(latents=tensors["latents"], frames=tensors["frames"])
    except Exception:
        return None
