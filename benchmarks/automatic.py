"""Writes the automatic calibrations that `transfer.yaml` and `magi_transfer.yaml` measure.

`python benchmarks/automatic.py`. Each is what `calibration: auto` keeps of one video, of the first calibration prompt,
with the steps of the benchmark.
"""

import os
import tempfile
from pathlib import Path

from motioncache.forecast.automatic import FOLDER
from motioncache.forecast.budget import AUTO, ForecastConfig
from motioncache_eval.bench.config import Method
from motioncache_eval.bench.model import find_loader
from motioncache_eval.prompts import read_prompts

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SKYREELS = (
    HERE.parent / "addconfig" / "config.yaml",
    ["num_frames=57", "base_num_frames=57", "num_inference_steps=30"],
)
MAGI = (HERE.parent / "MotionCache4MAGI-1" / "addconfig" / "job.yaml", ["num_inference_steps=32"])

FILES = {
    RESULTS / "skyreels-v2" / "transfer" / "automatic.json": ("skyreels-v2", *SKYREELS),
    RESULTS / "skyreels-v2" / "transfer" / "automatic-guidance-6.json": (
        "skyreels-v2",
        SKYREELS[0],
        [*SKYREELS[1], "guidance_scale=6"],
    ),
    RESULTS / "magi-1" / "transfer" / "automatic.json": ("magi-1", *MAGI),
}

FIRST_SEED = 1000
"""That of the full calibration: no benchmark has the same noise."""


def main() -> None:
    prompt = read_prompts(HERE / "calibration_prompts.txt")[0]
    for path, (model, job, overrides) in FILES.items():
        bench = find_loader(model)(job, [*overrides, f"prompt={prompt}", f"seed={FIRST_SEED}"])
        method = Method(name="automatic", policy=ForecastConfig(target_speedup=4.0, calibration=AUTO))
        with tempfile.TemporaryDirectory() as folder:
            os.environ[FOLDER] = folder
            bench.take(bench.job, method)
            (kept,) = (Path(folder) / "calibrations").iterdir()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(kept.read_text())
        print(path, flush=True)


if __name__ == "__main__":
    main()
