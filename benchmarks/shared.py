"""What the benchmark scripts share: resumable runs that several processes divide up, and contact sheets."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from models import MODELS, Model

from motioncache_eval.bench.model import BenchModel

HERE = Path(__file__).resolve().parent


def main(doc: str | None, run: Callable[[Model, BenchModel, Path, str], None], report: Callable[[Path], None]) -> None:
    """Run or report, as the command line says; results lie in a folder of the model."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--share", default="0/1", help="I/N: the I-th of N processes")
    parser.add_argument("--report", action="store_true", help="make the tables and pictures from the results")
    options = parser.parse_intermixed_args()
    results = HERE / "results" / options.model
    if options.report:
        report(results)
    else:
        model = MODELS[options.model]
        run(model, model.load(options.overrides), results, options.share)


def unfinished(paths: Sequence[Path], share: str) -> Iterator[tuple[int, Path]]:
    """The results of this process's share that do not exist yet."""
    part, parts = (int(number) for number in share.split("/"))
    for index, path in enumerate(paths):
        if index % parts == part and not path.exists():
            yield index, path


def sheet_frames(frames: np.ndarray) -> np.ndarray:
    """Five frames of a video `[frames, height, width, 3]`, from the first to the last."""
    return frames[np.linspace(0, len(frames) - 1, 5).astype(int)]


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
