"""Runs the command `motioncache`: `python -m motioncache_eval COMMAND`."""

import sys

from motioncache_eval.cli import main

if __name__ == "__main__":
    sys.exit(main())
