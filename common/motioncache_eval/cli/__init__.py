"""The command `motioncache`; what a subcommand needs is imported when it runs."""

import os
import sys
from importlib import import_module

COMMANDS = {
    "demo": "sample one prompt with the cache and without, and compare",
    "generate": "make the videos of one or many prompts",
    "bench": "measure methods against each other",
    "calibrate": "measure a model for the policy forecast",
    "vbench": "sample VBench's prompts",
    "studio": "make and compare videos in the browser",
    "presets": "list the presets of the models",
    "parity": "compare with golden files of the official code",
    "speed": "count what a model call asks of a GPU, without a GPU",
    "memory": "measure what a released model takes of a GPU's memory, without a GPU",
    "doctor": "show what this machine has, and which videos fit its memory",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 2 for a user's mistake, 130 for an interrupt."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    name, *rest = arguments
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}; commands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return run(name, rest)
    except KeyboardInterrupt as interrupt:  # imports take seconds, and are interrupted as likely as the work
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(name: str, arguments: list[str]) -> int:
    """Import a subcommand and run it."""
    command = import_module(f"motioncache_eval.cli.{name}").main
    errors = import_module("motioncache_eval.command")
    return errors.run_command(lambda: command(arguments))


def usage() -> str:
    """All subcommands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}s}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(
        ["usage: motioncache COMMAND [arguments]", "", *lines, "", "motioncache COMMAND -h lists what a command takes."]
    )
