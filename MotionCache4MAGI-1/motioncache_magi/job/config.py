"""The main job's configuration on MAGI-1: `addconfig/job.yaml`, and `key=value` overrides from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from motioncache.config import parse_overrides, read_yaml, structured
from motioncache_eval.settings import require, require_device, require_prompt, require_seed

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiJobConfig:
    """What to sample, how, and where to write it.

    Args:
        model: folder in the layout of the official repository.
        variant: which one of `ckpt/magi`, where there are several.
        config: JSON file in the official format, where the variant's own is not meant.
        special_tokens: the official `special_tokens.npz`, where it does not lie beside `magi`.
        preset: name of a preset of the model, or path of a YAML file with a policy.
        prompt: what the video shows.
        image, video: a file to start from, or to go on from.
        height, width, num_frames, num_inference_steps: null takes the model's.
        fps: frame rate of the files that are written; null takes the model's.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: null takes the model's.
        cpu_offload: keep text encoder and autoencoder on the CPU while they are not needed.
        output: folder that gets one new folder per run.
    """

    model: str = ""
    variant: str | None = None
    config: str | None = None
    special_tokens: str | None = None
    preset: str = "slow"
    prompt: str = ""
    image: str | None = None
    video: str | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    fps: int | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str | None = None
    cpu_offload: bool = False
    output: str = "outputs"

    def __post_init__(self) -> None:
        folder = "a folder in the layout of the official repository, with magi, vae and t5"
        require("model", self.model, bool(self.model), folder)
        require_prompt(self.prompt)
        for name in ("height", "width", "num_frames", "num_inference_steps", "fps"):
            value = getattr(self, name)
            require(name, value, value is None or value >= 1, "null, or 1 or more")
        require("dtype", self.dtype, self.dtype is None or self.dtype in DTYPES, f"null, {', '.join(DTYPES)}")
        require_seed(self.seed)
        require_device(self.device)


def load_magi_job(path: Path, overrides: Sequence[str]) -> MagiJobConfig:
    """Read the YAML file and apply `key=value` overrides.

    Relative paths in the file start at the repository; relative paths on the command line at the working directory.
    """
    values: dict[str, Any] = OmegaConf.to_container(read_yaml(path))  # pyright: ignore[reportAssignmentType]
    repository = path.resolve().parents[2]
    for key in ("model", "output"):
        if values.get(key):
            values[key] = str(repository / values[key])
    given = parse_overrides(overrides, [MagiJobConfig])
    if "model" in given:
        values["variant"] = None  # the file's belongs to the file's model
    values |= given
    return structured(MagiJobConfig, values, where=path.name)
