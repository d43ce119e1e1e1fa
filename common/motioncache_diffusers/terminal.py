"""What the command lines of these models share."""

from collections.abc import Callable

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from motioncache_eval import command


def run_command(run: Callable[[], int]) -> int:
    """Run a command as `motioncache_eval.command.run_command` does, with quiet libraries."""
    quiet_libraries()
    return command.run_command(run)


def quiet_libraries() -> None:
    """Turn off the libraries' progress bars and warnings, so that the terminal shows only ours."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
