"""Runs the command `motioncache`, where a module has to be named: `torchrun --nproc-per-node 4 -m motioncache ...`."""

import sys
from importlib.metadata import entry_points

if __name__ == "__main__":
    (command,) = entry_points(group="console_scripts", name="motioncache")
    sys.exit(command.load()())
