"""What all command lines share: an exit status, and errors of one line."""

import sys
from collections.abc import Callable

from motioncache.errors import MotionCacheError


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit status: 2 with one line for a user's mistake, 130 for an interrupt."""
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
