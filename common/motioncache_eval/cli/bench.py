"""`motioncache bench`: measure methods against each other; a YAML file names the model, the prompts and the methods."""

from motioncache_eval.bench.__main__ import main as run_bench
from motioncache_eval.bench.config import BenchConfig, MethodConfig, SweepConfig, TuneConfig
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.cli.options import HELP, show_parser_help

SECTIONS = {
    "Keys of the file": BenchConfig,
    "Keys of a method, under methods: NAME:": MethodConfig,
    "Keys of tune:, in a method": TuneConfig,
    "Keys of sweep:": SweepConfig,
}


def main(arguments: list[str]) -> int:
    """See `motioncache_eval.bench`."""
    if not set(HELP) & set(arguments):
        return run_bench(arguments)
    show_parser_help(run_bench)
    for title, schema in SECTIONS.items():
        print(f"\n{title}\n{describe_keys(schema)}")
    return 0
