"""What torch.compile gains over eager on this machine, on the shipped models: `python benchmarks/compiled.py`.

Each video is sampled twice, so that compiling is over when the time is taken: CPU seconds of this process,
in one thread. It takes some minutes and a C++ compiler, and writes results/compiled.json and the table of
docs/speed.md.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

import motioncache
from motioncache_eval.jobs import find_model

RESULTS = Path(__file__).resolve().parent / "results" / "compiled.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- compiled: begin -->", "<!-- compiled: end -->"

MODELS = {
    "SkyReels-V2": ("skyreels-v2", ["num_frames=37", "base_num_frames=37", "num_inference_steps=10"]),
    "MAGI-1": ("magi-1", ["num_frames=48", "num_inference_steps=16"]),
}
PRESETS = ("exact", "slow")


def measure(name: str, backend: str) -> list[dict[str, Any]]:
    """Both presets of a shipped model, eager and compiled."""
    model, overrides = MODELS[name]
    jobs = find_model(model)
    loaded = jobs.load(jobs.read(jobs.config, [*overrides, "prompt=a red circle moving right", "seed=0"]))
    eager = {preset: _sample(loaded, preset) for preset in PRESETS}
    loaded.pipeline.transformer.compile(backend=backend)
    rows: list[dict[str, Any]] = []
    for preset in PRESETS:
        latents, seconds = _sample(loaded, preset)
        expected, before = eager[preset]
        difference = float((latents - expected).abs().max() / expected.abs().max())
        rows.append({"model": name, "preset": preset, "eager": before, "compiled": seconds, "difference": difference})
    return rows


def _sample(loaded: Any, preset: str) -> tuple[torch.Tensor, float]:
    """The latents of a video, and the CPU seconds of making it a second time."""
    with motioncache.cached(loaded.pipeline, preset, adapter=loaded.adapter):
        loaded.call(loaded.pipeline, loaded.job, lambda: None)
        started = time.process_time()
        latents = loaded.call(loaded.pipeline, loaded.job, lambda: None)
        return latents, time.process_time() - started


def table(results: dict[str, Any]) -> str:
    """A row for each model and preset."""
    lines = [
        "| shipped model | preset | eager, CPU s | inductor, CPU s | speed-up | largest difference |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for row in results["rows"]:
        gain = f"{row['eager'] / row['compiled']:.2f}x"
        lines.append(
            f"| {row['model']} | `{row['preset']}` | {row['eager']:.1f} | {row['compiled']:.1f} | {gain} | "
            f"{row['difference']:.0e} |"
        )
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    """The page with its table."""
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    backend = parser.parse_args().backend
    torch.set_num_threads(1)
    rows = [row for name in MODELS for row in measure(name, backend)]
    results = {"torch": torch.__version__, "processor": platform.machine(), "backend": backend, "rows": rows}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
