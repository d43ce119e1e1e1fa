"""Speed and fidelity of every preset over the prompts of `benchmarks/prompts.txt`.

`python benchmarks/presets.py [--share I/N] [key=value ...]` samples the prompts (every N-th of them, so that N
processes can share the work) and writes one JSON per prompt to `benchmarks/results/presets/`; prompts that have one are
skipped.
`python benchmarks/presets.py --report` makes the table and the contact sheet from the JSONs.

Each prompt is sampled without a cache and under every preset, from the same noise, in the same process. Fidelity is
measured against the uncached video on decoded frames before any encoder; times are of one run each, and speed-ups are
ratios within one process.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from motioncache.api import resolve_preset
from motioncache_eval.detector import detect
from motioncache_eval.metrics import fidelity, psnr_of_frames
from motioncache_eval.video import to_uint8
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cli import quiet_libraries
from motioncache_skyreels.job.config import JobConfig, load_job
from motioncache_skyreels.job.load import load_pipeline
from motioncache_skyreels.job.prompts import read_prompts
from motioncache_skyreels.job.report import environment, write_json
from motioncache_skyreels.job.sample import decode, sample, warm_up

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "presets"
PRESETS = ("exact", "slow", "fast")
SHEET_FRAMES = (0, 24, 48, 72, 96)


def measure(prompt: str, index: int, job: JobConfig, pipeline: object) -> dict[str, object]:
    """Sample one prompt under all presets."""
    job = replace(job, prompt=prompt, seed=job.seed + index)
    vanilla = sample(pipeline, job, None)  # pyright: ignore[reportArgumentType]
    reference = decode(pipeline, vanilla.latents)  # pyright: ignore[reportArgumentType]
    frames = to_uint8(reference)
    results: dict[str, dict[str, object]] = {}
    for preset in PRESETS:
        policy = resolve_preset(SkyReelsAdapter(), preset)
        taken = sample(pipeline, job, policy)  # pyright: ignore[reportArgumentType]
        assert taken.summary is not None
        video = decode(pipeline, taken.latents)  # pyright: ignore[reportArgumentType]
        quality = fidelity(video, reference)
        results[preset] = {
            "policy": asdict(policy),
            "seconds": taken.seconds,
            "speedup": vanilla.seconds / taken.seconds,
            "flops": taken.summary.flops,
            "computed_share": taken.summary.computed_share,
            "psnr_db": quality.psnr_db,
            "psnr_of_frames_db": statistics.mean(psnr_of_frames(video, reference)),
            "ssim": quality.ssim,
            "max_abs_latent_difference": float((taken.latents - vanilla.latents).abs().max()),
            "detected": asdict(detect(to_uint8(video))),
        }
        vanilla_flops = (taken.summary.vanilla_flops, taken.summary.vanilla_visible_flops)
    results["vanilla"] = {
        "seconds": vanilla.seconds,
        "flops": vanilla_flops[0],
        "visible_flops": vanilla_flops[1],
        "detected": asdict(detect(frames)),
    }
    np.savez_compressed(RESULTS / f"{index:02d}.npz", frames=frames[list(SHEET_FRAMES)])
    return {"prompt": prompt, "config": portable(job), **environment(job.device), "results": results}


def portable(job: JobConfig) -> dict[str, object]:
    """The configuration with paths from the repository on, as they are the same on every machine."""
    root = f"{HERE.parent}/"
    return asdict(job) | {"model": job.model.removeprefix(root), "output": job.output.removeprefix(root)}


def run(share: str, overrides: list[str]) -> None:
    """Sample every prompt of this process's share that has no result yet."""
    part, parts = (int(number) for number in share.split("/"))
    quiet_libraries()
    job = load_job(HERE.parent / "addconfig" / "config.yaml", overrides)
    RESULTS.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(job)
    pipeline.set_progress_bar_config(disable=True)
    warm_up(pipeline, job)
    for index, prompt in enumerate(read_prompts(HERE / "prompts.txt")):
        path = RESULTS / f"{index:02d}.json"
        if index % parts != part or path.exists():
            continue
        result = measure(prompt, index, job, pipeline)
        write_json(path, result)
        print(f"{index:02d} {prompt}", flush=True)


def report() -> None:
    """The table, as Markdown, and the contact sheet."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    if not runs:
        sys.exit("error: there are no results; run benchmarks/presets.py first")
    rows = [table_row(tier, [run["results"] for run in runs]) for tier in ("vanilla", *PRESETS)]
    config = runs[0]["config"]
    lines = [
        f"{len(runs)} prompts, {config['num_frames']} frames, {config['num_inference_steps']} steps; "
        "means over prompts, fidelity ± standard deviation, speed-up the median.",
        "",
        "| | seconds | speed-up | TFLOPs | fewer FLOPs | computed | PSNR dB | SSIM | largest latent difference |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        kinds_line(runs),
        "",
        detection_line(runs),
    ]
    (RESULTS.parent / "presets.md").write_text("\n".join(lines) + "\n")
    contact_sheet(runs)
    print("\n".join(lines))


def table_row(tier: str, results: list[dict[str, dict[str, float]]]) -> str:
    """One line of the table."""

    def mean(name: str) -> float:
        return statistics.mean(result[tier][name] for result in results)

    ratio = statistics.mean(result["vanilla"]["flops"] / result[tier]["flops"] for result in results)
    seconds = f"| {tier} | {mean('seconds'):.1f} "
    flops = f"| {mean('flops') / 1e12:.3f} | {ratio:.2f}x "
    if tier == "vanilla":
        return f"{seconds}| 1.00x {flops}| 100 % | | | |"

    def spread(name: str) -> float:
        return statistics.stdev(result[tier][name] for result in results) if len(results) > 1 else 0.0

    speedup = statistics.median(result[tier]["speedup"] for result in results)
    worst = max(result[tier]["max_abs_latent_difference"] for result in results)
    quality = f"| {mean('psnr_db'):.2f} ± {spread('psnr_db'):.2f} | {mean('ssim'):.4f} ± {spread('ssim'):.4f} "
    return f"{seconds}| {speedup:.2f}x {flops}| {mean('computed_share'):.1%} {quality}| {worst:.1e} |"


def kind_of(prompt: str) -> str:
    """Which kind of scene a caption describes."""
    if " panning " in prompt:
        return "pan"
    if " and " in prompt:
        return "two movers"
    return "still" if " resting " in prompt else "one mover"


def kinds_line(runs: list[dict[str, dict]]) -> str:
    """Mean PSNR of every kind of scene."""
    kinds: dict[str, list[dict[str, dict]]] = {}
    for run in runs:
        kinds.setdefault(kind_of(run["prompt"]), []).append(run["results"])
    parts = [
        f"{kind} ({len(results)}) "
        + " / ".join(f"{statistics.mean(r[tier]['psnr_db'] for r in results):.1f}" for tier in ("slow", "fast"))
        for kind, results in kinds.items()
    ]
    return f"Mean PSNR in dB of slow / fast by kind of scene: {', '.join(parts)}."


def detection_line(runs: list[dict[str, dict]]) -> str:
    """How many uncached videos of one shape show what their caption says."""
    single = [run for run in runs if kind_of(run["prompt"]) in ("one mover", "still")]
    found = [(run["prompt"], run["results"]["vanilla"]["detected"]) for run in single]
    background = sum(f"{d['background']} background" in prompt for prompt, d in found)
    colour = sum(d["colour"] is not None and f"a {d['colour']} " in prompt for prompt, d in found)
    shape = sum(d["shape"] is not None and f" {d['shape']} " in prompt for prompt, d in found)
    moving = [(prompt, d) for prompt, d in found if " moving " in prompt]
    moves = sum(d["direction"] is not None for _, d in moving)
    right = sum(d["direction"] is not None and f"moving {d['direction']} " in prompt for prompt, d in moving)
    still = [d for prompt, d in found if " resting " in prompt]
    rests = sum(d["direction"] is None for d in still)
    steady = statistics.median(d["background_db"] for _, d in found)
    return (
        f"The uncached videos of one shape against their captions: background right in {background} of {len(found)}, "
        f"colour in {colour} of {len(found)}, shape in {shape} of {len(found)} (chance 1 in 2), moving in {moves} of "
        f"{len(moving)}, in the right direction in {right} of {len(moving)} (chance 1 in 4), at rest where it should "
        f"be in {rests} of {len(still)}; background steady to {steady:.1f} dB from frame to frame (median)."
    )


def contact_sheet(runs: list[dict[str, dict]]) -> None:
    """Five frames of every uncached video."""
    frames = [np.load(path)["frames"] for path in sorted(RESULTS.glob("*.npz"))]
    columns = 2
    lines = -(-len(runs) // columns)
    figure = Figure(figsize=(15, 1.25 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).T.ravel()
    for axis in axes:
        axis.axis("off")
    for axis, run, strip in zip(axes, runs, frames, strict=False):
        axis.imshow(np.concatenate(list(np.pad(strip, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)), axis=1))
        axis.set_title(run["prompt"], fontsize=8)
    figure.savefig(RESULTS.parent / "contact_sheet.png", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--share", default="0/1")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report()
    else:
        run(options.share, options.overrides)


if __name__ == "__main__":
    main()
