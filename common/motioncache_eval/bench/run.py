"""Runs a benchmark: prompt by prompt, the reference first, then every method that has no result yet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from motioncache.errors import MotionCacheError
from motioncache_eval.bench.cell import Measured, Reference, error_text, job_of, measure
from motioncache_eval.bench.config import REFERENCE, Benchmark, Method, fingerprint
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.tune import expand_methods
from motioncache_eval.report import write_json


def run_benchmark(
    bench: BenchModel, benchmark: Benchmark, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each result that is made, with its path; what is there already is skipped.

    A method that raises leaves `{"error": ...}` in its cell, which counts as missing at the next run.

    Args:
        share: (i, n) takes every n-th of the prompts, from the i-th on.
    """
    methods = expand_methods(bench, benchmark)
    methods.sort(key=lambda method: method.name != REFERENCE)
    output = Path(benchmark.config.output)
    _check_same_settings(bench, benchmark, methods)
    for index in range(len(benchmark.prompts))[share[0] :: share[1]]:
        prompt = benchmark.prompts[index]
        how = {
            "repeats": benchmark.config.repeats,
            "noise": _noise_path(output, index),
            "shown": index < benchmark.config.shown,
        }
        measured_here = [method for method in methods if method.count is None or index < method.count]
        missing = [method for method in measured_here if not is_complete(cell_path(output, method.folder, index))]
        if not missing:
            continue
        reference = None if missing[0].name == REFERENCE else _read_reference(output, index)
        if reference is None:
            missing = [next(m for m in methods if m.name == REFERENCE), *(m for m in missing if m.name != REFERENCE)]
        for method in missing:
            path = cell_path(output, method.folder, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            result, measured = _try(bench, method, prompt, index, reference=reference, **how)
            if measured is not None:
                if method.name == REFERENCE:
                    reference = measured.video
                    _write_reference(output, index, measured.video)
                if measured.view is not None:
                    _write_view(view_path(output, method.folder, index), measured.view)
            write_json(path, result)
            yield path, result


def _try(
    bench: BenchModel, method: Method, prompt: str, index: int, **how: Any
) -> tuple[dict[str, Any], Measured | None]:
    """The cell's content, and what was measured, if the method did not raise; the reference must not."""
    try:
        measured = measure(bench, method, prompt, index, **how)
    except Exception as error:
        if method.name == REFERENCE:
            raise
        return {"method": method.name, "prompt": prompt, "error": error_text(error)}, None
    return measured.result, measured


def _check_same_settings(bench: BenchModel, benchmark: Benchmark, methods: list[Method]) -> None:
    """Refuse to mix results of different settings in one folder."""
    output = Path(benchmark.config.output)
    for method in methods:
        for index, prompt in enumerate(benchmark.prompts):
            path = cell_path(output, method.folder, index)
            made = read_cell(path).get("fingerprint")
            if made not in (None, fingerprint(bench.settings(job_of(bench, method, prompt, index), method))):
                raise MotionCacheError(
                    f"{path} was made with other settings; delete {path.parent} to measure {method.name!r} again, or "
                    "pass output=... for a new folder"
                )


def cell_path(output: Path, folder: str, index: int) -> Path:
    """Where the result of a method's folder and a prompt lies."""
    return output / "cells" / folder / f"{index:03d}.json"


def view_path(output: Path, folder: str, index: int) -> Path:
    """Where the video for the page lies."""
    return output / "views" / folder / f"{index:03d}.json"


def _write_view(path: Path, view: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, view)


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
    """None where there is none, or one that cannot be read: it is sampled again."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(_reference_path(output, index))
        return Reference(latents=tensors["latents"], frames=tensors["frames"])
    except Exception:
        return None
