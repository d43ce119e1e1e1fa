"""What all command lines share: a quiet terminal, and errors of one line."""

import sys
from collections.abc import Callable

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from motioncache.errors import MotionCacheError


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit status: 2 with one line for a user's mistake, 130 for an interrupt."""
    quiet_libraries()
    try:
        return command()
    except MotionCacheError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was complete is kept", file=sys.stderr)
        return 130


def show_usage(text: str | None) -> int:
    """Print a command's docstring where it was called without what it needs."""
    print(text, file=sys.stderr)
    return 2


def quiet_libraries() -> None:
    """Leave the terminal to our own progress and errors."""
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
