"""What the benchmark scripts share: resumable runs that several processes divide up, and contact sheets."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from diffusers import SkyReelsV2DiffusionForcingPipeline
from matplotlib.figure import Figure

from motioncache_skyreels.cli import quiet_libraries
from motioncache_skyreels.job.config import JobConfig, load_job
from motioncache_skyreels.job.load import load_pipeline
from motioncache_skyreels.job.sample import warm_up

HERE = Path(__file__).resolve().parent
SHEET_FRAMES = (0, 24, 48, 72, 96)


def parse_command_line(doc: str | None) -> argparse.Namespace:
    """`overrides`, `share` and `report` of a script whose docstring is `doc`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--share", default="0/1", help="I/N: the I-th of N processes")
    parser.add_argument("--report", action="store_true", help="make the tables and pictures from the results")
    return parser.parse_intermixed_args()


def load(overrides: list[str]) -> tuple[JobConfig, SkyReelsV2DiffusionForcingPipeline]:
    """The main job's configuration with overrides, and its pipeline, warmed up."""
    quiet_libraries()
    job = load_job(HERE.parent / "addconfig" / "config.yaml", overrides)
    pipeline = load_pipeline(job)
    pipeline.set_progress_bar_config(disable=True)
    warm_up(pipeline, job)
    return job, pipeline


def unfinished(paths: Sequence[Path], share: str) -> Iterator[tuple[int, Path]]:
    """The results of this process's share that do not exist yet."""
    part, parts = (int(number) for number in share.split("/"))
    for index, path in enumerate(paths):
        if index % parts == part and not path.exists():
            yield index, path


def portable(job: JobConfig) -> dict[str, object]:
    """The configuration with paths from the repository on, as they are the same on every machine."""
    root = f"{HERE.parent}/"
    return asdict(job) | {"model": job.model.removeprefix(root), "output": job.output.removeprefix(root)}


def contact_sheet(path: Path, titles: Sequence[str], strips: Sequence[np.ndarray], *, columns: int) -> None:
    """Draw strips `[frames, height, width, 3]`, one for each title."""
    lines = -(-len(titles) // columns)
    figure = Figure(figsize=(7.5 * columns, 1.25 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).T.ravel()
    for axis in axes:
        axis.axis("off")
    for axis, title, strip in zip(axes, titles, strips, strict=False):
        axis.imshow(np.concatenate(list(np.pad(strip, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)), axis=1))
        axis.set_title(title, fontsize=8)
    figure.savefig(path, dpi=80)


def main(doc: str | None, run: Callable[[str, list[str]], None], report: Callable[[], None]) -> None:
    """Run or report, as the command line says."""
    options = parse_command_line(doc)
    if options.report:
        report()
    else:
        run(options.share, options.overrides)
