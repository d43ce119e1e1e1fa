"""Count what one denoise step passes: `python scripts/tour.py [PRESET]`.

Samples a small video with each shipped model, follows the Python calls of every denoise step after the first, and
prints the files of this repository that the longest step passes, in the order of their first call, with their lines. A
class counts where an object of it is made, also if its constructor is generated.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import motioncache
from motioncache.foreign import Onlooker
from motioncache_magi.job.config import load_magi_job
from motioncache_magi.job.sample import complete_job
from motioncache_magi.job.sample import load_pipeline as load_magi_pipeline
from motioncache_magi.job.sample import run_pipeline as run_magi_pipeline
from motioncache_magi.sampling.sampler import Sampler
from motioncache_skyreels.job.config import load_job
from motioncache_skyreels.job.load import load_pipeline
from motioncache_skyreels.job.sample import run_pipeline

ROOT = Path(__file__).resolve().parents[1]


class Passed:
    """The functions that the calls of one step have passed, by file."""

    def __init__(self) -> None:
        self.functions: dict[Path, set[str]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """See `sys.setprofile`."""
        code = frame.f_code
        path = code.co_filename
        if path == "<string>":  # the generated constructor of a dataclass
            owner = type(frame.f_locals.get("self"))
            path = getattr(sys.modules.get(owner.__module__), "__file__", None) or path
        here = Path(path).is_relative_to(ROOT) and "site-packages" not in path and path != __file__
        if event == "call" and here:
            self.functions.setdefault(Path(path), set()).add(code.co_qualname)

    def lines(self) -> dict[Path, int]:
        """Lines of each file."""
        return {path: len(path.read_text().splitlines()) for path in self.functions}


class Tour:
    """Follows every call of a function but the first ones, and keeps the one that passes the most lines."""

    def __init__(self, *, skip: int) -> None:
        self._skip = skip
        self.longest = Passed()

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._skip -= 1
        if self._skip >= 0:
            return function(*args, **kwargs)
        passed = Passed()
        sys.setprofile(passed)
        try:
            return function(*args, **kwargs)
        finally:
            sys.setprofile(None)
            if sum(passed.lines().values()) > sum(self.longest.lines().values()):
                self.longest = passed


def follow_skyreels(preset: str, *overrides: str) -> Passed:
    """The longest model call of SkyReels-V2 after the first iteration, which both CFG branches share."""
    small = ["num_frames=57", "base_num_frames=57", "num_inference_steps=30"]
    job = load_job(ROOT / "addconfig" / "config.yaml", [*small, *overrides])
    pipeline = load_pipeline(job)
    pipeline.set_progress_bar_config(disable=True)
    motioncache.enable_cache(pipeline, preset)
    tour = Tour(skip=2)
    pipeline.transformer.forward = Onlooker(pipeline.transformer.forward, tour)
    run_pipeline(pipeline, job)
    return tour.longest


def follow_magi(preset: str, *overrides: str) -> Passed:
    """The longest step of MAGI-1's window after the first."""
    job = load_magi_job(ROOT / "MotionCache4MAGI-1" / "addconfig" / "job.yaml", ["num_frames=72", *overrides])
    pipeline = load_magi_pipeline(job)
    job = complete_job(pipeline, job)
    pipeline.set_progress_bar_config(disable=True)
    motioncache.enable_cache(pipeline, preset)
    step = Sampler.step
    tour = Tour(skip=1)
    Sampler.step = lambda self, one: tour(step, self, one)
    try:
        run_magi_pipeline(pipeline, job)
    finally:
        Sampler.step = step
    return tour.longest


def report(title: str, passed: Passed) -> None:
    """Print the files."""
    print(title)
    lines = passed.lines()
    for path, functions in passed.functions.items():
        print(f"  {lines[path]:4d} lines, {len(functions):2d} functions passed  {path.relative_to(ROOT)}")
    print(f"  {sum(lines.values()):4d} lines in {len(lines)} files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="slow")
    preset = parser.parse_args().preset
    report(f"One denoise step of {preset} on SkyReels-V2 passes", follow_skyreels(preset))
    report(f"One denoise step of {preset} on MAGI-1 passes", follow_magi(preset))


if __name__ == "__main__":
    main()
