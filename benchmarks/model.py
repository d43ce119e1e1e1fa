"""Measures how good a shipped model is by itself: does an uncached video show what its caption says?

`python benchmarks/model.py MODEL [--share I/N] [key=value ...]` samples the 64 captions of
`benchmarks/model_prompts.txt`, none of which was trained on, without a cache (SkyReels-V2: with the stock diffusers
pipeline, asynchronously), at two numbers of steps. The detector reads every video as a whole and chunk by chunk; one
JSON per video goes to `benchmarks/results/MODEL/model/`, and videos that have one are skipped. The autoencoder is
measured on clips that it was not trained on.
`python benchmarks/model.py MODEL --report` makes the table and the contact sheet from them.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from models import MODELS, Model

from motioncache_eval.bench.config import REFERENCE, Method, portable
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.command import add_share
from motioncache_eval.detector import DetectedShape, Detection, detect
from motioncache_eval.judge import QUESTIONS, Verdict, count, judge
from motioncache_eval.prompts import read_prompts
from motioncache_eval.report import environment, write_json
from motioncache_eval.scenes import parse_caption
from motioncache_eval.video import to_uint8
from motioncache_train.clips import Validation

HERE = Path(__file__).resolve().parent
CLIPS = 32
PROMPTS = HERE / "model_prompts.txt"


def main() -> None:
    """Measure or report, as the command line says; the results of each model have a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    add_share(parser)
    parser.add_argument("--report", action="store_true", help="make the tables and pictures from the results")
    options = parser.parse_intermixed_args()
    results = HERE / "results" / options.model
    if options.report:
        report(results)
    else:
        model = MODELS[options.model]
        run(model, model.load(options.overrides), results, options.share)


def run(model: Model, bench: BenchModel, results: Path, share: tuple[int, int]) -> None:
    """Sample this process's share of the videos that have no result yet."""
    folder = results / "model"
    folder.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(PROMPTS)
    videos = [(steps, index) for steps in model.steps for index in range(len(prompts))]
    paths = [folder / f"{steps}-{index:02d}.json" for steps, index in videos]
    for _, path in unfinished([folder / "autoencoder.json"], share):
        validation = Validation(
            model.reconstruct, seed=2605, device=bench.job.device, frames=model.clip_frames, clips=CLIPS
        )
        write_json(path, {"clips": CLIPS, "frames": model.clip_frames, **validation(bench.pipeline.vae)})
    for video, path in unfinished(paths, share):
        steps, index = videos[video]
        asked = replace(bench.job, prompt=prompts[index], seed=bench.job.seed + index, num_inference_steps=steps)
        taken = bench.take(asked, Method(name=REFERENCE)).sample
        frames = to_uint8(bench.decode(asked, taken.latents))
        result = {
            "prompt": asked.prompt,
            "config": portable(asked),
            **environment(asked.device),
            "seconds": taken.seconds,
            "video": asdict(detect(frames)),
            "chunks": [asdict(detect(frames[span])) for span in bench.spans(len(frames))],
        }
        if steps == model.steps[0]:
            np.savez_compressed(path.with_suffix(".npz"), frames=sheet_frames(frames))
        write_json(path, result)
        print(f"{steps} steps, {index:02d} {asked.prompt}", flush=True)


def unfinished(paths: Sequence[Path], share: tuple[int, int]) -> Iterator[tuple[int, Path]]:
    """The results of this process's share that do not exist yet, with their places among all."""
    part, parts = share
    for index, path in enumerate(paths):
        if index % parts == part and not path.exists():
            yield index, path


def verdicts(results: Sequence[dict[str, Any]], chunk: int | None = None) -> list[Verdict]:
    """The verdicts on the whole videos, or on one chunk of each."""
    return [
        judge(detection(r["video"] if chunk is None else r["chunks"][chunk]), parse_caption(r["prompt"]))
        for r in results
    ]


def detection(fields: dict[str, Any]) -> Detection:
    """The inverse of `asdict`."""
    shapes = tuple(DetectedShape(**shape | {"velocity": tuple(shape["velocity"])}) for shape in fields["shapes"])
    return Detection(**fields | {"shapes": shapes})


def report(folder: Path) -> None:
    """Write the table, as Markdown, and the contact sheet."""
    by_steps: dict[int, list[dict[str, Any]]] = {}
    for path in sorted((folder / "model").glob("*-*.json")):
        by_steps.setdefault(int(path.stem.partition("-")[0]), []).append(json.loads(path.read_text()))
    if not by_steps:
        sys.exit("error: there are no results; run benchmarks/model.py first")
    most = max(by_steps)
    shown = by_steps[most]
    lines = [
        f"{len(shown)} captions that were never trained on, {shown[0]['config']['num_frames']} frames, sampled without "
        f"a cache. Chunks: at {most} steps, each read by itself.",
        "",
        *table(columns_of(by_steps)),
        "",
        autoencoder_line(folder / "model" / "autoencoder.json"),
    ]
    (folder / "model.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    strips = [np.load(folder / "model" / f"{most}-{index:02d}.npz")["frames"] for index in range(len(shown))]
    contact_sheet(folder / "model.png", [r["prompt"] for r in shown], strips, columns=3)


def columns_of(by_steps: Mapping[int, list[dict[str, Any]]]) -> dict[str, list[Verdict]]:
    """The verdicts of each column: all videos, those of one shape, and the chunks at most steps."""
    falling = sorted(by_steps, reverse=True)
    one_shape = {steps: [r for r in by_steps[steps] if " and " not in r["prompt"]] for steps in falling}
    most = by_steps[falling[0]]
    return {
        **{f"{steps} steps": verdicts(by_steps[steps]) for steps in falling},
        **{f"one shape, {steps} steps": verdicts(one_shape[steps]) for steps in falling},
        **{f"chunk {chunk + 1}": verdicts(most, chunk) for chunk in range(len(most[0]["chunks"]))},
    }


def table(columns: Mapping[str, list[Verdict]]) -> list[str]:
    """The lines of the table: a row for each question, and two about backgrounds."""
    rows = {text: [cell(of, key) for of in columns.values()] for key, text in QUESTIONS.items()}
    rows["background, frame to frame, median dB"] = [steady(of) for of in columns.values()]
    rows["videos with a background under 42 dB"] = [unsteady(of) for of in columns.values()]
    return [
        f"| | {' | '.join(columns)} |",
        f"|---|{'--:|' * len(columns)}",
        *(f"| {text} | {' | '.join(cells)} |" for text, cells in rows.items()),
    ]


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


def autoencoder_line(path: Path) -> str:
    """What the autoencoder loses, whatever the transformer does."""
    measured = json.loads(path.read_text())
    return (
        f"The autoencoder alone, over {measured['clips']} clips of {measured['frames']} frames that it was not trained "
        f"on: {measured['psnr_db']:.1f} dB, the first frame {measured['first_frame_psnr_db']:.1f} dB (mean; lowest "
        f"{measured['lowest_psnr_db']:.1f} and {measured['lowest_first_frame_psnr_db']:.1f})."
    )


def cell(of: Sequence[Verdict], question: str) -> str:
    """How many are right, of how many."""
    right, total = count(of, question)
    return f"{right}/{total} ({right / total:.0%})"


def steady(of: Sequence[Verdict]) -> str:
    """The median over the videos whose camera rests."""
    return f"{statistics.median(v.background_db for v in of if v.background_db is not None):.1f}"


def unsteady(of: Sequence[Verdict]) -> str:
    """How many of those videos fall below the floor."""
    backgrounds = [v.background_db for v in of if v.background_db is not None]
    return f"{sum(db < 42 for db in backgrounds)}/{len(backgrounds)}"


if __name__ == "__main__":
    main()
