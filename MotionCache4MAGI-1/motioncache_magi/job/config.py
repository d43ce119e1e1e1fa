"""The configuration of a job on MAGI-1: `addconfig/job.yaml`, and `key=value` overrides from the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motioncache.config import parse_overrides, read_yaml, structured
from motioncache.limits import check_limits
from motioncache.registry import kv_storage
from motioncache_eval.settings import read_settings, require, require_device, require_path, require_prompt, require_seed
from motioncache_magi.sampling.options import MemoryOptions

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiJobConfig:
    """What to sample, how, and where to write it.

    Args:
        model: folder in the layout of the official repository.
        variant: name of a folder in `ckpt/magi`; null takes the only one there.
        config: JSON file in the official format; null takes the variant's own.
        special_tokens: path of the official `special_tokens.npz`; null looks for it beside `magi`.
        preset: name of a preset of the model, or path of a YAML file with a policy; null takes the one that the presets
            file names.
        target_speedup: FLOPs without a cache over those that the video may take, for presets of the policy `forecast`;
            null takes the preset's.
        allow_foreign_calibration: let `forecast` take a calibration that was measured on another model.
        prompt: what the video shows.
        image: a picture that the video starts from.
        video: a video file that the new video continues.
        height, width, num_frames, num_inference_steps: null takes the model's. They have the limits of
            `motioncache.limits`.
        fps: frame rate of the files that are written; null takes the model's.
        seed: of the noise, which is the same on every device; null takes the model's.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: `float32` or `bfloat16`; null takes the model's.
        cpu_offload: keep text encoder and autoencoder on the CPU while they are not needed.
        kv: how keys and values are kept: `model`, in the model's own dtype, `int8` or `host`; null takes the preset's.
        weights: `fp8` keeps the weights of an fp8 checkpoint (`4.5B_distill_quant`, `24B_distill_quant`) as they are,
            and makes each the model's dtype while it is applied; null does so once and for all.
        t5_dtype: what the text encoder computes in, and is held in on the host: `float32` or `bfloat16`.
        chunks_at_once: how many chunks' worth of tokens a layer computes at a time: 1 takes the least memory; null
            takes one chunk, or as many as have 4096 tokens together.
        output: folder in which each run makes a folder of its own.
    """

    model: str = ""
    variant: str | None = None
    config: str | None = None
    special_tokens: str | None = None
    preset: str | None = None
    target_speedup: float | None = None
    allow_foreign_calibration: bool = False
    prompt: str = ""
    image: str | None = None
    video: str | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    fps: int | None = None
    seed: int | None = 0
    device: str = "cpu"
    dtype: str | None = None
    cpu_offload: bool = False
    kv: str | None = None
    weights: str | None = None
    t5_dtype: str = "float32"
    chunks_at_once: int | None = None
    output: str = "outputs"

    def __post_init__(self) -> None:
        folder = "a folder in the layout of the official repository, with magi, vae and t5"
        require("model", self.model, bool(self.model), folder)
        require_prompt(self.prompt)
        check_limits(asdict(self), optional=("height", "width", "num_frames", "num_inference_steps", "fps"))
        require("dtype", self.dtype, self.dtype is None or self.dtype in DTYPES, f"null, {', '.join(DTYPES)}")
        if self.kv is not None:
            kv_storage(self.kv)
        require("weights", self.weights, self.weights in (None, "fp8"), "null, fp8")
        require("t5_dtype", self.t5_dtype, self.t5_dtype in DTYPES, ", ".join(DTYPES))
        MemoryOptions(chunks_at_once=self.chunks_at_once)  # checks it
        if self.seed is not None:
            require_seed(self.seed)
        require_device(self.device)
        for name in ("model", "config", "special_tokens", "image", "video", "output"):
            require_path(name, getattr(self, name))


def load_magi_job(path: Path | None, overrides: Sequence[str]) -> MagiJobConfig:
    """Read the YAML file, if there is one, and apply `key=value` overrides.

    Relative paths in the file start at the repository; relative paths on the command line at the working directory.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = read_settings(read_yaml(path), repository=path.resolve().parents[2], paths=("model", "output"))
    values = override(values, parse_overrides(overrides, [MagiJobConfig]))
    return structured(MagiJobConfig, values, where=path.name if path else "overrides")


def override(values: dict[str, Any], overriding: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file with others in place; a file's variant is one of the file's own model."""
    variant = {"variant": None} if "model" in overriding else {}
    return {**values, **variant, **overriding}
