"""`motioncache calibrate`: measure a model for the policy `forecast`."""

from motioncache_eval.calibrate import main as run_calibrate
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.cli.options import HELP, show_parser_help
from motioncache_eval.jobs import installed_models


def main(arguments: list[str]) -> int:
    """See `motioncache_eval.calibrate`."""
    if not set(HELP) & set(arguments):
        return run_calibrate(arguments)
    show_parser_help(run_calibrate)
    for name, model in installed_models().items():
        print(f"\nKeys of the job of {name}:\n{describe_keys(model.schema)}")
    return 0
