"""Where the package `vbench` is: in an environment of its own, which has another transformers and another numpy."""

import os
import subprocess
from pathlib import Path

from motioncache.errors import ConfigError, MotionCacheError

PYTHON = "VBENCH_PYTHON"
"""Environment variable: the Python that has `vbench`; without it, that of `scripts/vbench_env.sh`."""

VBENCH_ENVIRONMENT = Path(__file__).parents[3] / ".venv-vbench" / "bin" / "python"

_FIND = "import importlib.util as u; print(u.find_spec('vbench').submodule_search_locations[0])"


def named_python() -> Path:
    """The Python that should have `vbench`, whether it is there or not."""
    return Path(os.environ.get(PYTHON) or VBENCH_ENVIRONMENT)


def missing_environment() -> str | None:
    """Say that VBench's environment is not there, and how it is made; None if it is."""
    python = named_python()
    if python.exists():
        return None
    return (
        f"VBench's environment is not there ({python}): run bash scripts/vbench_env.sh, which makes it, or set "
        f"{PYTHON} to a Python that has vbench"
    )


def find_python() -> Path:
    """The Python that has `vbench`.

    Raises:
        MotionCacheError: if there is none.
    """
    missing = missing_environment()
    if missing is not None:
        raise MotionCacheError(f"{missing}, or pass score=false")
    return named_python()


def packaged_full_info() -> Path:
    """VBench's own list of prompts, which the package holds.

    Raises:
        ConfigError: if there is no such package; it says what to set instead.
    """
    python = named_python()
    if python.exists():
        found = subprocess.run([str(python), "-c", _FIND], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        path = Path(found.stdout.strip()) / "VBench_full_info.json"
        if found.returncode == 0 and path.is_file():
            return path
    raise ConfigError(
        f"VBench's list of prompts is missing, for {python} has no vbench: run bash scripts/vbench_env.sh, set "
        "full_info to a VBench_full_info.json, or short_prompts to a folder of {suite}.txt files"
    )
