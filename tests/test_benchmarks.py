"""The benchmarks of the repository: every YAML file builds its methods, and the committed results are theirs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval.bench.benchmark import Benchmark, load_sweep
from motioncache_eval.bench.cell import job_of
from motioncache_eval.bench.config import Method, fingerprint
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.results import cell_path, read_cell
from motioncache_eval.bench.tune import expand_methods

ROOT = Path(__file__).parents[1]
FILES = sorted(set((ROOT / "benchmarks").glob("*.yaml")) - {ROOT / "benchmarks" / "example.yaml"})
SETTINGS = ("job", "policy", "weights", "calibration")


def committed_cells(benchmark: Benchmark, method: Method) -> Mapping[int, Mapping[str, Any]]:
    """The cells of a method by the prompt's number; none of a method that may fail, as they hold errors."""
    if benchmark.may_fail(method.name):
        return {}
    count = len(benchmark.prompts) if method.count is None else method.count
    output = Path(benchmark.config.output)
    return {index: read_cell(cell_path(output, method.folder, index)) for index in range(count)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_committed_result_is_one_of_the_settings_that_its_benchmark_has_today(path: Path) -> None:
    for benchmark in load_sweep(path).benchmarks.values():
        bench = benchmark.load_model()
        for method in expand_methods(bench, benchmark):  # raises for one that has not been tuned for these settings
            for index, cell in committed_cells(benchmark, method).items():
                settings = settings_of(bench, benchmark, method, index)
                assert {key: cell[key] for key in SETTINGS if key in cell} == settings, (method.name, index)
                assert cell["fingerprint"] == fingerprint(settings)


def settings_of(bench: BenchModel, benchmark: Benchmark, method: Method, index: int) -> dict[str, Any]:
    """What a cell's settings have to be, as a JSON file holds them."""
    job = job_of(bench, method, benchmark.prompts[index], index)
    return json.loads(json.dumps(bench.settings(job, method)))
