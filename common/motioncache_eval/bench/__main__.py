"""Measures every method on one model: `motioncache bench CONFIG.yaml [key=value ...]`.

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
from motioncache_eval.bench.cell import last_line
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.bench.report import write_report
from motioncache_eval.bench.rows import read_rows
from motioncache_eval.bench.run import check_same_settings, missing_cells, run_benchmark
from motioncache_eval.bench.sweep import write_sweep
from motioncache_eval.bench.tune import check_methods, tune_benchmark
from motioncache_eval.command import add_share, check_output_folder, run_command
from motioncache_eval.progress import progress_bar, say


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="motioncache bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="YAML file of a benchmark, such as benchmarks/example.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="in the place of what the file says")
    add_share(parser)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only load the model, and check all settings")
    only.add_argument("--tune", action="store_true", help="only tune the methods, and write their knobs")
    only.add_argument("--quiet", action="store_true", help="only measure: other processes measure, too")
    only.add_argument("--report", action="store_true", help="only make the tables, pictures and page from the results")
    options = parser.parse_intermixed_args(arguments)
    return run_command(lambda: run(load_sweep(options.config, options.overrides), options))


def run(sweep: Sweep, options: argparse.Namespace) -> int:
    """Tune, or measure what is missing and report, for every value of the sweep."""
    for benchmark in sweep.benchmarks.values():
        check_output_folder(Path(benchmark.config.output))
    if options.tune or options.check:
        for benchmark in sweep.benchmarks.values():
            check(benchmark) if options.check else tune(benchmark, options.share)
        return 0
    status = max(measure(benchmark, options) for benchmark in sweep.benchmarks.values())
    if sweep.key and not options.quiet:
        print("\n".join(write_sweep(sweep)))
    return status


def measure(benchmark: Benchmark, options: argparse.Namespace) -> int:
    """Measure what is missing, and report; 1 if a method raised without `may_fail`."""
    output = Path(benchmark.config.output)
    if not options.quiet:
        require_extra("matplotlib", "drawing figures")  # now, and not when everything is measured
    if not options.report:
        fill(_load(benchmark), benchmark, options.share)
    rows = read_rows(output)
    if not rows:
        raise MotionCacheError(f"{output} holds no results: run without --report first")
    if not options.quiet:
        print("\n".join(write_report(output, benchmark, rows)))
    return 1 if any(row.errors and not benchmark.may_fail(row.name) for row in rows) else 0


def fill(bench: BenchModel, benchmark: Benchmark, share: tuple[int, int]) -> None:
    """Measure what is missing, with a line for each cell."""
    missing = missing_cells(bench, benchmark, share)
    with progress_bar(sum(map(len, missing.values())), unit="videos", position=share[0]) as bar:
        for path, result in run_benchmark(bench, benchmark, missing):
            outcome = last_line(result["error"]) if "error" in result else f"{result['psnr_db']:.1f} dB"
            say(f"{path.parent.name} {path.stem}: {outcome}")
            bar.update()


def check(benchmark: Benchmark) -> None:
    """Load the model, and refuse whatever is wrong before anything is measured; methods need not be tuned yet."""
    bench = _load(benchmark)
    methods = check_methods(bench, benchmark)
    check_same_settings(bench, benchmark, [method for method in methods if benchmark.tuning_of(method.name) is None])
    print(f"{benchmark.config.model}: {len(methods)} methods, {len(benchmark.prompts)} prompts: all settings are known")


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
