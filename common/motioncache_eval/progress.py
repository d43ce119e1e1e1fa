"""A bar with the time left, on a terminal only, and lines that don't run into it."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(total: int, *, unit: str, position: int = 0) -> "tqdm[Any]":
    """A bar on the standard error; where that is no terminal, it shows nothing.

    Args:
        position: lines below the cursor, for several processes that share a terminal.
    """
    return tqdm(
        total=total,
        unit=unit,
        position=position,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
        bar_format="{desc}{percentage:3.0f}% |{bar:24}| {n_fmt} of {total_fmt} {unit}, {remaining} left",
    )


def say(line: str) -> None:
    """Print a line at once, above the bars."""
    tqdm.write(line)
    sys.stdout.flush()
