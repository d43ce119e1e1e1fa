"""A stand-in for a model, whose videos are noise and take no time: for tests of what happens around sampling.

`install` makes it a model `stand-in` of the processes that have its folder on their path. The first word of a prompt
says what its sampling meets.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from motioncache_eval.jobs import LoadedJob

CONFIG = """
vbench:
  presets: [vanilla]
  devices: [cpu, cpu]
  model: none
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInJob:
    model: str = ""
    preset: str | None = None
    target_speedup: float | None = None
    allow_foreign_calibration: bool = False
    prompt: str = ""
    num_inference_steps: int = 2
    num_frames: int = 5
    height: int = 16
    width: int = 32
    fps: int = 8
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    cpu_offload: bool = False
    output: str = ""


class StandIn:
    """See `JobModel`."""

    schema = StandInJob
    takes = "nothing"

    def adapter(self) -> Any:
        return SimpleNamespace(name="stand-in", presets=lambda: Path(__file__).parent / "config.yaml")

    def recognises(self, model: str) -> bool:
        return False

    def override(self, values: dict[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, **overriding}

    def load(self, job: StandInJob) -> LoadedJob:
        pipeline = SimpleNamespace(set_progress_bar_config=lambda **_: None)
        return LoadedJob(
            adapter=self.adapter(),
            job=job,
            pipeline=pipeline,
            encode=lambda job: None,
            call=_call,
            stream=lambda pipeline, job, step_done: (_ for _ in ()),
            fit=lambda job: job,
            decode=lambda job, latents: latents,
            warm_up=lambda job: None,
            branch="cond",
        )


def _call(pipeline: Any, job: StandInJob, first_chunk: Any) -> torch.Tensor:
    match job.prompt.split()[0]:
        case "large":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore lines.")
        case "deadly":
            os.kill(os.getpid(), 9)
        case "hanging":
            time.sleep(600)
        case "wrong":
            raise RuntimeError("something\nelse")
        case "slow":
            time.sleep(0.5)
    return torch.rand(job.num_frames, 3, job.height, job.width, generator=torch.Generator().manual_seed(job.seed))


def install(folder: Path) -> Path:
    """Make a folder that registers the stand-in for processes that have it on their PYTHONPATH."""
    package = folder / "packages"
    information = package / "motioncache_standin-1.dist-info"
    information.mkdir(parents=True)
    (package / "motioncache_standin.py").write_text(Path(__file__).read_text())
    (package / "config.yaml").write_text(CONFIG)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: motioncache-standin\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[motioncache.jobs]\nstand-in = motioncache_standin:StandIn\n")
    return package
