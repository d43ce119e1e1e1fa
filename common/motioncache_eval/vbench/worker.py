"""Runs a module in a process that ends with the one that started it.

The command is `python -m motioncache_eval.vbench.worker MODULE [ARGUMENT ...]`. Its standard input is a pipe that
nobody writes to, and that closes when the process at its other end ends, even by SIGKILL. This module imports nothing
that takes time, so it watches while the others are imported.
"""

import os
import runpy
import signal
import sys
import threading


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the process that started this one acts
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
