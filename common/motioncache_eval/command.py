"""What all command lines share: an exit status, errors of one line, and work that several processes divide up."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

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


def check_output_file(path: Path) -> None:
    """Refuse an `--output` that cannot be written, before anything is measured."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise MotionCacheError(f"--output {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise MotionCacheError(f"--output {path} is a folder: pass a file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise MotionCacheError(f"--output {path}: no permission to write it; pass another file")


def show_usage(text: str | None) -> int:
    """Print a command's docstring where it was called without what it needs."""
    print(text, file=sys.stderr)
    return 2


def add_share(parser: argparse.ArgumentParser) -> None:
    """The option `--share I/N`, read as (i, n)."""
    parser.add_argument("--share", type=_share, default=(0, 1), metavar="I/N", help="the I-th of N processes, from 0")


def _share(text: str) -> tuple[int, int]:
    part, parts = (int(number) for number in text.split("/"))
    if not 0 <= part < parts:
        raise argparse.ArgumentTypeError(f"{text} has to be I/N with 0 <= I < N")
    return part, parts
