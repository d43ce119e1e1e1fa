"""Measures every method on one model: `python -m motioncache_eval.bench CONFIG.yaml [key=value ...]`.

CONFIG names the model, the prompts and the methods. Each result is one JSON in `output/cells/METHOD/`; what is there is
not measured again, so an interrupted benchmark goes on where it stopped. `table.md`, `curve.png` and the page
`report.html` are made from the JSONs. The exit status is 1 if a method raised; its cell says why, and the rest goes on.
"""

import argparse
import sys
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_eval.bench.config import Benchmark, load_benchmark
from motioncache_eval.bench.model import find_loader
from motioncache_eval.bench.report import read_rows, write_report
from motioncache_eval.bench.run import run_benchmark
from motioncache_eval.command import run_command
from motioncache_eval.main_job import check_output


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m motioncache_eval.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--share", type=_share, default=(0, 1), metavar="I/N", help="the I-th of N processes, from 0")
    parser.add_argument("--report", action="store_true", help="only make the table and the plot from the results")
    options = parser.parse_intermixed_args(arguments)
    return run_command(
        lambda: run(load_benchmark(options.config, options.overrides), options.share, report_only=options.report)
    )


def _share(text: str) -> tuple[int, int]:
    part, parts = (int(number) for number in text.split("/"))
    if not 0 <= part < parts:
        raise argparse.ArgumentTypeError(f"{text} has to be I/N with 0 <= I < N")
    return part, parts


def run(benchmark: Benchmark, share: tuple[int, int], *, report_only: bool) -> int:
    """Measure what is missing, and report."""
    config = benchmark.config
    output = Path(config.output)
    check_output(output)
    if not report_only:
        bench = find_loader(config.model)(Path(config.job), benchmark.job_overrides)
        bench.warm_up(bench.job)
        for path, result in run_benchmark(bench, benchmark, share):
            said = result["error"].splitlines()[-1] if "error" in result else f"{result['psnr_db']:.1f} dB"
            print(f"{path.parent.name} {path.stem}: {said}", flush=True)
    if not read_rows(output):
        raise MotionCacheError(f"{output} holds no results: run without --report first")
    print("\n".join(write_report(output, benchmark)))
    return 1 if any(row.errors for row in read_rows(output)) else 0


if __name__ == "__main__":
    sys.exit(main())
