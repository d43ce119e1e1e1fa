"""The configuration of a job: a YAML file, and `key=value` overrides from the command line."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motioncache.config import parse_overrides, read_yaml, structured
from motioncache.limits import check_limits
from motioncache_eval.settings import (
    read_settings,
    require,
    require_device,
    require_path,
    require_prompt,
    require_seed,
    resolve_model,
)

DTYPES = ("float32", "bfloat16", "float16")

CHUNK_FRAMES = 33
"""Frames of a chunk, with the pipeline's default of 9 latent frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """What to sample, how, and where to write it.

    Args:
        model: folder or hub id of a Helios pipeline in diffusers' format.
        preset: name of a preset of the model, or path of a YAML file with a policy; null takes the one that the presets
            file names.
        target_speedup: FLOPs without a cache over those that the video may take, for presets of the policy `forecast`;
            null takes the preset's.
        allow_foreign_calibration: let `forecast` take a calibration that was measured on another model.
        prompt: what the video shows.
        negative_prompt: what it must not show; counts where guidance_scale exceeds 1.
        height, width: pixels, multiples of 16. These and the other numbers have the limits of `motioncache.limits`.
        num_frames: a multiple of 33, the frames of a chunk.
        num_inference_steps: denoise steps of each chunk.
        guidance_scale: scale of classifier-free guidance; 1 and less turn it off.
        fps: frame rate of the video.
        seed: of the noise, which is the same on every device.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: `float32`, `bfloat16` or `float16`, of transformer and text encoder.
        cpu_offload: keep only that part of the model on the GPU that is needed at the time.
        output: folder in which each run makes a folder of its own.
    """

    model: str = "BestWishYsh/Helios-Base"
    preset: str | None = None
    target_speedup: float | None = None
    allow_foreign_calibration: bool = False
    prompt: str = ""
    negative_prompt: str = ""
    height: int = 384
    width: int = 640
    num_frames: int = 132
    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    fps: int = 24
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    cpu_offload: bool = False
    output: str = "outputs"

    def __post_init__(self) -> None:
        check_limits(asdict(self))
        require_prompt(self.prompt)
        for name in ("height", "width"):
            require(name, getattr(self, name), getattr(self, name) % 16 == 0, "a multiple of 16")
        require("num_inference_steps", self.num_inference_steps, self.num_inference_steps >= 2, "2 or more")
        whole = self.num_frames % CHUNK_FRAMES == 0
        require("num_frames", self.num_frames, whole, f"a multiple of {CHUNK_FRAMES}, such as 33, 99 or 132")
        require_seed(self.seed)
        require("dtype", self.dtype, self.dtype in DTYPES, ", ".join(DTYPES))
        require_device(self.device)
        for name in ("model", "output"):
            require_path(name, getattr(self, name))


def load_job(path: Path | None, overrides: Sequence[str]) -> JobConfig:
    """Read the YAML file, if there is one, and apply `key=value` overrides.

    Relative paths in the file start at the folder above the file's own, which is the repository; relative paths on the
    command line start at the working directory.
    """
    values: dict[str, Any] = {}
    if path is not None:
        repository = path.resolve().parent.parent
        values = read_settings(read_yaml(path), repository=repository, paths=("output",))
        resolve_model(values, repository)
    values |= parse_overrides(overrides, [JobConfig])
    return structured(JobConfig, values, where=path.name if path else "overrides")
