"""Write docs/commands.md from what the commands say of themselves: `python docs/write_commands.py`."""

import contextlib
import io
import os
from pathlib import Path

from motioncache_eval.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "commands.md"

HEAD = """# Commands

`motioncache` is installed with the package; `python -m motioncache_eval` is the same. This page is what the commands
say for `-h`, written by `python docs/write_commands.py`; a test fails if it is out of date.
"""

ALSO = {"demo": ["model=magi-1"], "vbench": ["magi-1"]}
"""Further arguments for which the help of a command differs."""


def write_page() -> str:
    """The whole page."""
    sections = [HEAD, _fenced(said_by())]
    for name in COMMANDS:
        sections += [f"## {name}\n", _fenced(said_by(name))]
        for argument in ALSO.get(name, []):
            sections += [f"With `{argument}`:\n", _fenced(said_by(name, argument))]
    return "\n".join(sections)


def said_by(*arguments: str) -> str:
    """What a command prints for `-h`, with paths that start at the repository."""
    printed = io.StringIO()
    os.environ["COLUMNS"] = "100"  # argparse wraps at the terminal's width
    with contextlib.redirect_stdout(printed):
        main([*arguments, "-h"])
    return printed.getvalue().replace(f"{ROOT}/", "")


def _fenced(text: str) -> str:
    return f"```text\n{text.strip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(write_page())
