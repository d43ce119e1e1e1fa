"""Measures the shipped SkyReels-V2 at a guidance of 6 and 30 steps, for `guidance6.yaml`.

`python benchmarks/guidance6_calibration.py [--share I/N]` samples each calibration prompt from two noises, and writes
the products of each video's velocities to `benchmarks/results/skyreels-v2/guidance6/products/`; when all are there, the
shipped `calibration-guidance-6.json`, with the sensitivity of the other one. It also prints how alike velocities
of neighbouring steps are: where two that are two steps apart are more alike than two neighbours, sampling swings from
step to step.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from motioncache.forecast.budget import shipped_calibration
from motioncache.forecast.calibration import Calibration, sensitivity_between
from motioncache.forecast.guided import measured_products
from motioncache.forecast.prediction import Array
from motioncache_eval.bench.model import find_loader
from motioncache_eval.calibrate import FIRST_SEED, sample_exact
from motioncache_eval.command import add_share
from motioncache_eval.prompts import read_prompts
from motioncache_skyreels.adapter import SkyReelsAdapter

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "results" / "skyreels-v2" / "guidance6"
SETTINGS = ["num_frames=57", "base_num_frames=57", "num_inference_steps=30", "guidance_scale=6"]
SECOND_NOISE = 100
"""Added to the seed for the second video of a prompt."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_share(parser)
    part, parts = parser.parse_args().share
    prompts = read_prompts(HERE / "calibration_prompts.txt")
    bench = find_loader("skyreels-v2")(HERE.parent / "addconfig" / "config.yaml", [*SETTINGS, f"prompt={prompts[0]}"])
    shares = bench.guidance(bench.job)
    (OUTPUT / "products").mkdir(parents=True, exist_ok=True)
    seeds = [(i, FIRST_SEED + noise + i) for noise in (0, SECOND_NOISE) for i in range(len(prompts))]
    for i, seed in seeds[part::parts]:
        path = OUTPUT / "products" / f"{seed}.npz"
        if not path.exists():
            video = sample_exact(bench, replace(bench.job, prompt=prompts[i], seed=seed))
            np.savez(path, sigmas=video.sigmas, found=list(video.found.values()))
        found = np.load(path)["found"]
        print(seed, swing([measured_products(chunk, shares)[0] for chunk in found]), flush=True)
    paths = [OUTPUT / "products" / f"{seed}.npz" for _, seed in seeds]
    if all(path.exists() for path in paths):
        shipped = Calibration.load(shipped_calibration(SkyReelsAdapter().presets()))
        sigmas = tuple(np.load(paths[0])["sigmas"].tolist())
        found = np.mean([np.load(path)["found"].mean(axis=0) for path in paths], axis=0)
        products, parts = measured_products(found, shares)
        sensitivity = sensitivity_between(shipped.sigmas, shipped.sensitivity, sigmas)
        Calibration(bench.identity, sigmas, products, sensitivity, parts).save(
            shipped_calibration(SkyReelsAdapter().presets()).with_name("calibration-guidance-6.json")
        )


def swing(products: list[Array]) -> str:
    """The least similarity of neighbouring velocities after the fourth step, and that of the two around them."""
    found: list[tuple[float, float]] = []
    for chunk in products:
        length = np.sqrt(np.diagonal(chunk))
        alike = chunk / length / length[:, None]
        step = int(np.diagonal(alike, 1)[4:].argmin()) + 4
        found.append((float(alike[step, step + 1]), float(alike[step - 1, step + 1])))
    return ", ".join(f"{one:.2f} and {two:.2f}" for one, two in found)


if __name__ == "__main__":
    main()
