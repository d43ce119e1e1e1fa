"""Command line: `python -m motioncache_magi.parity FOLDER`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache_eval.parity import FileReport, parity_command
from motioncache_magi.parity.forwards import check_bfloat16, check_dit
from motioncache_magi.parity.golden import Golden
from motioncache_magi.parity.motion import check_motion_unit, check_motion_video, check_teacache_video
from motioncache_magi.parity.schedules import check_schedules
from motioncache_magi.parity.text import check_captions, check_text
from motioncache_magi.parity.vae import check_vae
from motioncache_magi.parity.videos import check_video

CHECKS: dict[str, Callable[[Path], FileReport]] = {
    "schedules": check_schedules,
    "caption_clean": check_captions,
    "text_tokens": lambda path: check_text(Golden(path)),
    "vae_cases": lambda path: check_vae(Golden(path)),
    "dit_*_cases": lambda path: check_dit(Golden(path)),
    "dit_*_bf16": lambda path: check_bfloat16(Golden(path)),
    "motion_unit_*": lambda path: check_motion_unit(Golden(path)),
    "motion_e2e_*": lambda path: check_motion_video(Golden(path)),
    "flowcache_e2e_*": lambda path: check_motion_video(Golden(path)),
    "teacache_e2e_*": lambda path: check_teacache_video(Golden(path)),
    "e2e_*": lambda path: check_video(Golden(path)),
}
"""Checks by the names of files."""

INPUTS = ("manifest", "*_weights")
"""Files that the others refer to."""


def check_folder(folder: Path) -> Iterator[FileReport]:
    """One report for each golden file of a folder.

    Raises:
        MotionCacheError: if the folder holds no golden file, or one that no check knows.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".json"))
    files = [path for path in files if not _fits(path, INPUTS)]
    if not files:
        raise MotionCacheError(f"{folder} holds no golden files (*.safetensors, *.json)")
    for path in files:
        check = next((check for name, check in CHECKS.items() if _fits(path, (name,))), None)
        if check is None:
            raise MotionCacheError(f"{path.name} is none of the golden files that are known: {', '.join(CHECKS)}")
        try:
            yield check(path)
        except KeyError as error:
            raise MotionCacheError(f"{path.name} or its manifest lacks {error}") from None


def _fits(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(Path(path.stem).match(pattern) for pattern in patterns)


def main(arguments: list[str] | None = None) -> int:
    return parity_command("python -m motioncache_magi.parity", __doc__, check_folder, arguments)


if __name__ == "__main__":
    sys.exit(main())
