"""Command line: `python -m motioncache_skyreels.parity FOLDER`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_diffusers.terminal import quiet_libraries
from motioncache_eval.parity import FileReport, parity_command
from motioncache_skyreels.parity.forwards import check_forward
from motioncache_skyreels.parity.golden import Golden
from motioncache_skyreels.parity.units import check_decision, check_distance, check_frame_difference
from motioncache_skyreels.parity.videos import check_trace, check_vanilla

CHECKS: dict[str, Callable[[Golden], FileReport]] = {
    "unit_frame_diff": check_frame_difference,
    "unit_distance": check_distance,
    "unit_decision": check_decision,
    "forward": check_forward,
    "e2e_vanilla": check_vanilla,
    "e2e_": check_trace,
}
"""Checks by the beginning of a file's name; the first that fits is run."""

INPUTS = ("e2e_inputs", "weights")
"""Files that the others refer to."""


def check_folder(folder: Path) -> Iterator[FileReport]:
    """One report for each golden file of a folder.

    Raises:
        MotionCacheError: if the folder holds no golden file, or one that no check knows.
    """
    files = sorted(path for path in folder.glob("*.safetensors") if not path.stem.startswith(INPUTS))
    if not files:
        raise MotionCacheError(f"{folder} holds no golden files (*.safetensors)")
    for path in files:
        check = next((check for name, check in CHECKS.items() if path.stem.startswith(name)), None)
        if check is None:
            raise MotionCacheError(f"{path.name} is none of the golden files that are known: {', '.join(CHECKS)}")
        try:
            yield check(Golden(path))
        except KeyError as error:
            raise MotionCacheError(f"{path.name} or its JSON lacks {error}") from None


def main(arguments: list[str] | None = None) -> int:
    quiet_libraries()
    return parity_command("python -m motioncache_skyreels.parity", __doc__, check_folder, arguments)


if __name__ == "__main__":
    sys.exit(main())
