"""How good the shipped model is by itself: does an uncached video show what its caption says?

`python benchmarks/model.py [--share I/N] [key=value ...]` samples the 64 captions of `benchmarks/model_prompts.txt`,
none of which was trained on, with the stock diffusers pipeline, asynchronously, at 30 and at 50 steps. The detector
reads every video as a whole and chunk by chunk; one JSON per video goes to `benchmarks/results/model/`, and videos that
have one are skipped. The autoencoder is measured on clips that it was not trained on.
`python benchmarks/model.py --report` makes the table and the contact sheet from them.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from shared import HERE, SHEET_FRAMES, contact_sheet, load, main, portable, unfinished

from motioncache_eval.detector import DetectedShape, Detection, detect
from motioncache_eval.judge import QUESTIONS, Verdict, count, judge
from motioncache_eval.report import environment, write_json
from motioncache_eval.scenes import parse_caption
from motioncache_eval.video import to_uint8
from motioncache_skyreels.job.prompts import read_prompts
from motioncache_skyreels.job.sample import decode, sample
from motioncache_skyreels.train.vae import reconstruct
from motioncache_train.clips import Validation

RESULTS = HERE / "results" / "model"
STEPS = (50, 30)
AUTOENCODER = RESULTS / "autoencoder.json"
CLIPS = 32
PROMPTS = HERE / "model_prompts.txt"


def run(share: str, overrides: list[str]) -> None:
    """Sample this process's share of the videos that have no result yet."""
    job, pipeline = load(overrides)
    RESULTS.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(PROMPTS)
    videos = [(steps, index) for steps in STEPS for index in range(len(prompts))]
    paths = [RESULTS / f"{steps}-{index:02d}.json" for steps, index in videos]
    for _, path in unfinished([AUTOENCODER], share):
        write_json(
            path, {"clips": CLIPS, **Validation(reconstruct, seed=2605, device=job.device, clips=CLIPS)(pipeline.vae)}
        )
    for video, path in unfinished(paths, share):
        steps, index = videos[video]
        asked = replace(job, prompt=prompts[index], seed=job.seed + index, num_inference_steps=steps)
        taken = sample(pipeline, asked, None)
        frames = to_uint8(decode(pipeline, taken.latents))
        result = {
            "prompt": asked.prompt,
            "config": portable(asked),
            **environment(asked.device),
            "seconds": taken.seconds,
            "video": asdict(detect(frames)),
            "chunks": [asdict(detect(chunk)) for chunk in split_chunks(frames, asked.causal_block_size)],
        }
        if steps == STEPS[0]:
            np.savez_compressed(path.with_suffix(".npz"), frames=frames[list(SHEET_FRAMES)])
        write_json(path, result)
        print(f"{steps} steps, {index:02d} {asked.prompt}", flush=True)


def split_chunks(frames: np.ndarray, chunk_latents: int) -> list[np.ndarray]:
    """The frames of each chunk; the first latent frame is one frame, every other one is four."""
    first = 4 * chunk_latents - 3
    return [frames[:first], *(frames[i : i + 4 * chunk_latents] for i in range(first, len(frames), 4 * chunk_latents))]


def verdicts(results: Sequence[dict[str, Any]], chunk: int | None = None) -> list[Verdict]:
    """Of the whole videos, or of one chunk of each."""
    return [
        judge(detection(r["video"] if chunk is None else r["chunks"][chunk]), parse_caption(r["prompt"]))
        for r in results
    ]


def detection(fields: dict[str, Any]) -> Detection:
    """The inverse of `asdict`."""
    shapes = tuple(DetectedShape(**shape | {"velocity": tuple(shape["velocity"])}) for shape in fields["shapes"])
    return Detection(**fields | {"shapes": shapes})


def report() -> None:
    """The table, as Markdown, and the contact sheet."""
    columns: dict[str, list[Verdict]] = {}
    for steps in STEPS:
        results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{steps}-*.json"))]
        if not results:
            sys.exit("error: there are no results; run benchmarks/model.py first")
        columns[f"{steps} steps"] = verdicts(results)
        chunks = len(results[0]["chunks"])
        columns |= {f"chunk {chunk + 1}": verdicts(results, chunk) for chunk in range(chunks) if steps == STEPS[0]}
        columns[f"one shape, {steps} steps"] = verdicts([r for r in results if " and " not in r["prompt"]])
        if steps == STEPS[0]:
            shown = results
    order = sorted(columns, key=lambda name: (name.startswith("chunk"), name.startswith("one")))
    lines = [
        f"{len(shown)} captions that were never trained on, {shown[0]['config']['num_frames']} frames, guidance "
        f"{shown[0]['config']['guidance_scale']:g}, sampled by the stock pipeline without a cache. Chunks: at "
        f"{STEPS[0]} steps, each read by itself.",
        "",
        f"| | {' | '.join(order)} |",
        f"|---|{'--:|' * len(order)}",
        *(f"| {text} | {' | '.join(cell(columns[name], key) for name in order)} |" for key, text in QUESTIONS.items()),
        f"| background, frame to frame, median dB | {' | '.join(steady(columns[name]) for name in order)} |",
        f"| videos with a background under 42 dB | {' | '.join(unsteady(columns[name]) for name in order)} |",
        "",
        autoencoder_line(),
    ]
    (RESULTS.parent / "model.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    strips = [np.load(RESULTS / f"{STEPS[0]}-{index:02d}.npz")["frames"] for index in range(len(shown))]
    contact_sheet(RESULTS.parent / "model.png", [r["prompt"] for r in shown], strips, columns=3)


def autoencoder_line() -> str:
    """What is lost before the transformer does anything."""
    measured = json.loads(AUTOENCODER.read_text())
    return (
        f"The autoencoder alone, over {measured['clips']} clips of 97 frames that it was not trained on: "
        f"{measured['psnr_db']:.1f} dB, the first frame {measured['first_frame_psnr_db']:.1f} dB (mean of the clips; "
        f"lowest {measured['lowest_psnr_db']:.1f} and {measured['lowest_first_frame_psnr_db']:.1f})."
    )


def cell(of: Sequence[Verdict], question: str) -> str:
    """Right of how many."""
    right, total = count(of, question)
    return f"{right}/{total} ({right / total:.0%})"


def steady(of: Sequence[Verdict]) -> str:
    """Median over the videos whose camera rests."""
    return f"{statistics.median(v.background_db for v in of if v.background_db is not None):.1f}"


def unsteady(of: Sequence[Verdict]) -> str:
    """How many of those videos fall below the floor."""
    known = [v.background_db for v in of if v.background_db is not None]
    return f"{sum(db < 42 for db in known)}/{len(known)}"


if __name__ == "__main__":
    main(__doc__, run, report)
