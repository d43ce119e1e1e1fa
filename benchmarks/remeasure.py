"""Measures a few committed cells again, and compares them: `python benchmarks/remeasure.py CONFIG.yaml [--cells N]`.

Run it with `--check` after a change of code that should change no video, such as a refactoring: the exit status is 1
when a PSNR or a count of FLOPs differs from the committed one. The cells are of different methods, the published code
and forecasts first. Measure on a CPU with `OMP_NUM_THREADS=1`, as the committed cells were. Another CPU rounds
otherwise; to see whether two versions of the code agree bit for bit, run this in a checkout of each and compare what
they print. Nothing is written.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motioncache_eval.bench.benchmark import Benchmark, load_sweep
from motioncache_eval.bench.cell import measure
from motioncache_eval.bench.config import REFERENCE, Method
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.results import cell_path, read_cell
from motioncache_eval.bench.tune import expand_methods

CLOSE_DB = 1e-3
"""PSNRs that differ by less are the same; FLOPs have to be equal.

Another CPU moved PSNRs by up to 0.0003 dB, and by 0.13 dB in the forecast over 60 chunks of `long.yaml`, which adds up
how it rounds.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--cells", type=int, default=3, metavar="N", help="how many cells, besides the uncached video")
    parser.add_argument("--value", metavar="LABEL", help="only this value of a sweep")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a figure differs")
    options = parser.parse_args()
    benchmarks = load_sweep(options.config).benchmarks
    if options.value not in (None, *benchmarks):
        parser.error(f"--value: {options.value!r} is not one of {', '.join(benchmarks)}")
    same = True
    for label, benchmark in benchmarks.items():
        if options.value in (None, label):
            for name, committed, measured in remeasure(benchmark, options.cells):
                equal = is_same(committed, measured)
                same = same and equal
                figures = ", ".join(f"{key} {committed[key]} -> {measured[key]}" for key in ("psnr_db", "flops"))
                print(f"{options.config.stem} {label} {name}: {figures}: {'same' if equal else 'DIFFERS'}", flush=True)
    return 1 if options.check and not same else 0


def remeasure(benchmark: Benchmark, cells: int) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each method's name, committed cell and new one, of the first prompt; the uncached video comes first."""
    bench = benchmark.load_model()
    reference = None
    with tempfile.TemporaryDirectory() as folder:
        for method in choose(bench, benchmark, cells):
            measured = measure(
                bench,
                method,
                benchmark.prompts[0],
                0,
                repeats=1,
                noise=Path(folder) / "noise.safetensors",
                reference=reference,
                shown=False,
            )
            reference = reference or measured.video
            yield method.name, committed_cell(benchmark, method), measured.result


def choose(bench: BenchModel, benchmark: Benchmark, cells: int) -> list[Method]:
    """The reference, and methods with a committed cell: one of each family before a second one of any."""
    methods = {method.name: method for method in expand_methods(bench, benchmark)}
    turns: dict[str, tuple[int, int]] = {}
    of_family = Counter[str]()
    for name, method in methods.items():
        if method.settings is not None and "error" not in committed_cell(benchmark, method):
            turns[name] = (of_family[method.family], rank(method.settings["is"]))
            of_family[method.family] += 1
    return [methods[name] for name in (REFERENCE, *sorted(turns, key=turns.__getitem__)[:cells])]


def rank(policy: str) -> int:
    """Which policies come first: the published code, forecasts, others, and last the one that computes everything."""
    ranks = {"Published": 0, "Forecast": 1, "NoCache": 3}
    return next((number for prefix, number in ranks.items() if policy.startswith(prefix)), 2)


def committed_cell(benchmark: Benchmark, method: Method) -> dict[str, Any]:
    return read_cell(cell_path(Path(benchmark.config.output), method.folder, 0))


def is_same(committed: dict[str, Any], measured: dict[str, Any]) -> bool:
    """Whether both figures are the same."""
    return abs(committed["psnr_db"] - measured["psnr_db"]) < CLOSE_DB and committed["flops"] == measured["flops"]


if __name__ == "__main__":
    sys.exit(main())
