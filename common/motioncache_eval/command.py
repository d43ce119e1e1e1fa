"""What all command lines share: exit statuses, errors of one line, checks of outputs, and shares of the work."""

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from motioncache.errors import MotionCacheError


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit status: 2 with one line for a user's mistake, 130 for an interrupt.

    A command that knows what an interrupt leaves behind raises `KeyboardInterrupt` with that text.
    """
    try:
        return command()
    except MotionCacheError as error:
        _wait_to_speak(error)
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        _wait_to_speak(interrupt)
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130


def _wait_to_speak(error: BaseException) -> None:
    """Let other processes of a command that `torchrun` has started speak first, if they know better."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        import_module("motioncache_eval.team").wait_to_speak(error)


def run_with_config(command: Callable[[Path, list[str]], int], usage: str | None, arguments: list[str] | None) -> int:
    """Run a command that takes `CONFIG.yaml [key=value ...]`, and return its exit status.

    Args:
        command: gets the YAML file and the overrides.
        usage: printed if the file is missing, or for `--help`.
        arguments: None takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage, file=sys.stderr)
        return 2
    return run_command(lambda: command(Path(arguments[0]), arguments[1:]))


def check_output_file(path: Path) -> None:
    """Refuse an `--output` that cannot be written, before anything is measured."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise MotionCacheError(f"--output {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise MotionCacheError(f"--output {path} is a folder: pass a file")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise MotionCacheError(f"--output {path}: no permission to write it; pass another file")


def check_output_folder(output: Path) -> None:
    """Refuse an `output=` that cannot be written, before the model is loaded."""
    try:
        existing = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
        link = next((path for path in (output, *output.parents) if path.is_symlink() and not path.exists()), None)
    except OSError as error:  # a name that is too long
        raise MotionCacheError(f"output={output} cannot be written: {error.strerror}; pass another folder") from None
    if link is not None:
        target = f"{link} is a link to {link.readlink()}, which does not exist"
        raise MotionCacheError(f"output={output} cannot be written: {target}; make that folder, or pass another")
    if not existing.is_dir():
        raise MotionCacheError(f"output={output} cannot be written: {existing} is a file; pass a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise MotionCacheError(f"output={output} cannot be written: no permission for {existing}; pass another folder")


def add_share(parser: argparse.ArgumentParser) -> None:
    """Add the option `--share I/N`, which is read as (i, n)."""
    parser.add_argument("--share", type=_share, default=(0, 1), metavar="I/N", help="the I-th of N processes, from 0")


def _share(text: str) -> tuple[int, int]:
    part, parts = (int(number) for number in text.split("/"))
    if not 0 <= part < parts:
        raise argparse.ArgumentTypeError(f"{text} has to be I/N with 0 <= I < N")
    return part, parts
