"""Measures every method on one model: `python -m motioncache_eval.bench CONFIG.yaml [key=value ...]`.

CONFIG names the model, the prompts and the methods; `--tune` tunes the methods that have a `tune:` to the budgets,
once. Each result is one JSON in `output/cells/METHOD/`; a cell that has a result is not measured again, so an
interrupted benchmark goes on where it stopped. `table.md`, `curve.png` and the page `report.html` are made from the
JSONs. The exit status is 1 if a method raised and its `may_fail` is not set; its cell says why, and the other methods
are measured. With a `sweep:` all of this happens for each value of a setting, and `sweep.md` and `sweep.png` show what
the setting changes.
"""

import argparse
import sys
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra
from motioncache_eval.bench.benchmark import Benchmark, Sweep, load_sweep
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.report import write_report
from motioncache_eval.bench.rows import read_rows
from motioncache_eval.bench.run import run_benchmark
from motioncache_eval.bench.sweep import write_sweep
from motioncache_eval.bench.tune import tune_benchmark
from motioncache_eval.command import add_share, check_output_folder, run_command


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m motioncache_eval.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    add_share(parser)
    parser.add_argument("--quiet", action="store_true", help="make no report: other processes still measure")
    parser.add_argument("--report", action="store_true", help="only make the table and the plot from the results")
    parser.add_argument("--tune", action="store_true", help="only tune the methods, and write their knobs")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(load_sweep(options.config, options.overrides), options))


def run(sweep: Sweep, options: argparse.Namespace) -> int:
    """Tune, or measure what is missing and report, for every value of the sweep."""
    if options.tune:
        for benchmark in sweep.benchmarks.values():
            tune(benchmark, options.share)
        return 0
    status = max(measure(benchmark, options) for benchmark in sweep.benchmarks.values())
    if sweep.key and not options.quiet:
        print("\n".join(write_sweep(sweep)))
    return status


def measure(benchmark: Benchmark, options: argparse.Namespace) -> int:
    """Measure what is missing, and report; 1 if a method raised without `may_fail`."""
    output = Path(benchmark.config.output)
    check_output_folder(output)
    if not options.quiet:
        require_extra("matplotlib", "drawing figures")  # now, and not when everything is measured
    if not options.report:
        for path, result in run_benchmark(_load(benchmark), benchmark, options.share):
            outcome = result["error"].splitlines()[-1] if "error" in result else f"{result['psnr_db']:.1f} dB"
            print(f"{path.parent.name} {path.stem}: {outcome}", flush=True)
    rows = read_rows(output)
    if not rows:
        raise MotionCacheError(f"{output} holds no results: run without --report first")
    if not options.quiet:
        print("\n".join(write_report(output, benchmark, rows)))
    return 1 if any(row.errors and not benchmark.may_fail(row.name) for row in rows) else 0


def tune(benchmark: Benchmark, share: tuple[int, int]) -> None:
    """Tune what has not been tuned for these settings."""
    if not benchmark.config.budgets:
        raise MotionCacheError("there is nothing to tune: the benchmark has no budgets")
    for line in tune_benchmark(_load(benchmark), benchmark, share):
        print(line, flush=True)


def _load(benchmark: Benchmark) -> BenchModel:
    bench = benchmark.load_model()
    bench.warm_up(bench.job)
    return bench


if __name__ == "__main__":
    sys.exit(main())
