"""Speed and fidelity of the published presets over the prompts of `benchmarks/prompts.txt`.

`python benchmarks/presets.py MODEL [--share I/N] [key=value ...]` samples the prompts (every N-th of them, so that N
processes can share the work) and writes one JSON per prompt to `benchmarks/results/MODEL/presets/`; prompts that have
one are skipped.
`python benchmarks/presets.py MODEL --report` makes the table and the contact sheet from the JSONs.

Each prompt is sampled without a cache and under every preset, from the same noise, in the same process. Fidelity is
measured against the uncached video on decoded frames before any encoder; times are of one run each, and speed-ups are
ratios within one process.
"""

import json
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from models import Model
from shared import HERE, contact_sheet, main, sheet_frames, unfinished

from motioncache.api import resolve_preset
from motioncache_eval.bench.config import REFERENCE, Method, portable
from motioncache_eval.bench.model import BenchModel
from motioncache_eval.intervals import bootstrap_interval
from motioncache_eval.metrics import fidelity, psnr_of_frames
from motioncache_eval.prompts import read_prompts
from motioncache_eval.report import environment, write_json
from motioncache_eval.scenes import parse_caption
from motioncache_eval.video import to_uint8

PRESETS = {"exact": "exact", "slow": "paper-slow", "fast": "paper-fast"}
"""By their names in the results."""

KINDS = {"mover": "one mover", "still": "still", "two": "two movers", "pan": "pan"}


def measure(prompt: str, index: int, bench: BenchModel, frames: Path) -> dict[str, object]:
    """Sample one prompt under all presets; some frames of the uncached video go to `frames`."""
    job = replace(bench.job, prompt=prompt, seed=bench.job.seed + index)
    vanilla = bench.take(job, Method(name=REFERENCE)).sample
    reference = bench.decode(job, vanilla.latents)
    results: dict[str, dict[str, object]] = {}
    for tier, preset in PRESETS.items():
        policy: Any = resolve_preset(bench.adapter, preset)
        taken = bench.take(job, Method(name=tier, policy=policy)).sample
        assert taken.summary is not None
        video = bench.decode(job, taken.latents)
        quality = fidelity(video, reference)
        results[tier] = {
            "policy": asdict(policy),
            "seconds": taken.seconds,
            "speedup": vanilla.seconds / taken.seconds,
            "flops": taken.summary.flops,
            "computed_share": taken.summary.computed_share,
            "psnr_db": quality.psnr_db,
            "psnr_of_frames_db": statistics.mean(psnr_of_frames(video, reference)),
            "ssim": quality.ssim,
            "max_abs_latent_difference": float((taken.latents - vanilla.latents).abs().max()),
        }
        vanilla_flops = (taken.summary.vanilla_flops, taken.summary.vanilla_visible_flops)
    results["vanilla"] = {
        "seconds": vanilla.seconds,
        "flops": vanilla_flops[0],
        "visible_flops": vanilla_flops[1],
    }
    np.savez_compressed(frames, frames=sheet_frames(to_uint8(reference)))
    return {"prompt": prompt, "config": portable(job), **environment(job.device), "results": results}


def run(model: Model, bench: BenchModel, results: Path, share: str) -> None:
    """Sample every prompt of this process's share that has no result yet."""
    folder = results / "presets"
    folder.mkdir(parents=True, exist_ok=True)
    prompts = read_prompts(HERE / "prompts.txt")
    for index, path in unfinished([folder / f"{index:02d}.json" for index in range(len(prompts))], share):
        write_json(path, measure(prompts[index], index, bench, path.with_suffix(".npz")))
        print(f"{index:02d} {prompts[index]}", flush=True)


def report(results: Path) -> None:
    """The table, as Markdown, and the contact sheet."""
    runs = [json.loads(path.read_text()) for path in sorted((results / "presets").glob("*.json"))]
    if len(runs) < 2:
        sys.exit("error: a table needs the results of two prompts or more; run benchmarks/presets.py first")
    rows = [table_row(tier, [run["results"] for run in runs]) for tier in ("vanilla", *PRESETS)]
    config = runs[0]["config"]
    lines = [
        f"{len(runs)} prompts, {config['num_frames']} frames, {config['num_inference_steps']} steps; "
        "means over prompts, PSNR and SSIM with the 95 % interval of the mean (bootstrap over prompts), speed-up the "
        "median.",
        "",
        "| | seconds | speed-up | TFLOPs | fewer FLOPs | computed | PSNR dB | SSIM | largest latent difference |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        kinds_line(runs),
    ]
    (results / "presets.md").write_text("\n".join(lines) + "\n")
    strips = [np.load(path)["frames"] for path in sorted((results / "presets").glob("*.npz"))]
    contact_sheet(results / "contact_sheet.png", [run["prompt"] for run in runs], strips, columns=2)
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

    def interval(name: str, digits: int) -> str:
        values = [result[tier][name] for result in results]
        low, high = bootstrap_interval(values)
        return f"{statistics.mean(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    speedup = statistics.median(result[tier]["speedup"] for result in results)
    worst = max(result[tier]["max_abs_latent_difference"] for result in results)
    quality = f"| {interval('psnr_db', 2)} | {interval('ssim', 4)} "
    return f"{seconds}| {speedup:.2f}x {flops}| {mean('computed_share'):.1%} {quality}| {worst:.1e} |"


def kinds_line(runs: list[dict[str, dict]]) -> str:
    """Mean PSNR of every kind of scene."""
    kinds: dict[str, list[dict[str, dict]]] = {}
    for run in runs:
        kinds.setdefault(KINDS[parse_caption(run["prompt"]).kind], []).append(run["results"])
    parts = [
        f"{kind} ({len(results)}) "
        + " / ".join(f"{statistics.mean(r[tier]['psnr_db'] for r in results):.1f}" for tier in ("slow", "fast"))
        for kind, results in kinds.items()
    ]
    return f"Mean PSNR in dB of slow / fast by kind of scene: {', '.join(parts)}."


if __name__ == "__main__":
    main(__doc__, run, report)
