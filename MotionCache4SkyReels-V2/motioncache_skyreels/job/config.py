"""The configuration of a job: `addconfig/config.yaml`, and `key=value` overrides from the command line."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motioncache.config import parse_overrides, read_yaml, structured
from motioncache.limits import check_limits
from motioncache.registry import kv_storage
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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    """What to sample, how, and where to write it.

    Args:
        model: folder or hub id of a SkyReels-V2 diffusion-forcing pipeline in diffusers' format.
        preset: name of a preset of the model, or path of a YAML file with a policy; null takes the one that the presets
            file names.
        target_speedup: FLOPs without a cache over those that the video may take, for presets of the policy `forecast`;
            null takes the preset's.
        allow_foreign_calibration: let `forecast` take a calibration that was measured on another model.
        kv: how keys and values are kept: `model`, in the model's own dtype, `int8` or `host`; null takes the preset's.
        split_guidance: compute the CFG branches one after another, in half the memory for activations.
        prompt: what the video shows.
        negative_prompt: what it must not show; counts where guidance_scale exceeds 1.
        height, width: pixels, multiples of 16. These and the other numbers have the limits of `motioncache.limits`.
        num_frames: 4 n + 1 frames; n + 1 latent frames have to divide into chunks.
        base_num_frames: frames of a window; a longer video is made of several windows.
        overlap_history: frames that windows share; null for videos of one window.
        addnoise_condition: how noisy frames of the window before are shown to the model; 20 suits long videos.
        num_inference_steps: denoise steps of each chunk.
        guidance_scale: scale of classifier-free guidance; 1 and less turn it off.
        flow_shift: shift of the noise schedule; null keeps the checkpoint's. The official text-to-video models need 8.
        ar_step: denoise steps by which a chunk lags behind the one before it; 0 samples synchronously.
        causal_block_size: latent frames of a chunk.
        fps: frame rate of the video.
        seed: of the noise, which is the same on every device.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: `float32`, `bfloat16` or `float16`, of transformer and text encoder.
        cpu_offload: keep only that part of the model on the GPU that is needed at the time.
        output: folder in which each run makes a folder of its own.
    """

    model: str = "MotionCache4SkyReels-V2/motioncache-tiny"
    preset: str | None = None
    target_speedup: float | None = None
    allow_foreign_calibration: bool = False
    kv: str | None = None
    split_guidance: bool = False
    prompt: str = ""
    negative_prompt: str = ""
    height: int = 64
    width: int = 96
    num_frames: int = 97
    base_num_frames: int = 97
    overlap_history: int | None = None
    addnoise_condition: float = 0.0
    num_inference_steps: int = 50
    guidance_scale: float = 4.0
    flow_shift: float | None = None
    ar_step: int = 5
    causal_block_size: int = 5
    fps: int = 24
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    cpu_offload: bool = False
    output: str = "outputs"

    @property
    def long(self) -> bool:
        """Whether the video is made of several windows."""
        return self.num_frames > self.base_num_frames

    def __post_init__(self) -> None:
        check_limits(asdict(self), optional=("overlap_history", "flow_shift"))
        require_prompt(self.prompt)
        for name in ("height", "width"):
            require(name, getattr(self, name), getattr(self, name) % 16 == 0, "a multiple of 16")
        require("num_inference_steps", self.num_inference_steps, self.num_inference_steps >= 2, "2 or more")
        in_chunks = self.causal_block_size > 1 or self.ar_step == 0
        require(
            "causal_block_size", self.causal_block_size, in_chunks, "2 or more where ar_step > 0; the models have 5"
        )
        require_seed(self.seed)
        require("dtype", self.dtype, self.dtype in DTYPES, ", ".join(DTYPES))
        if self.kv is not None:
            kv_storage(self.kv)
        require_device(self.device)
        for name in ("model", "output"):
            require_path(name, getattr(self, name))
        self._check_frames()

    def _check_frames(self) -> None:
        frames = {name: getattr(self, name) for name in ("num_frames", "base_num_frames", "overlap_history")}
        for name, value in frames.items():
            require(name, value, value is None or value % 4 == 1, "4 n + 1, such as 17, 57, 77 or 97")
        require(
            "overlap_history",
            self.overlap_history,
            not self.long or self.overlap_history is not None,
            "17 or 37 where num_frames exceeds base_num_frames",
        )
        moves_on = self.overlap_history is None or self.overlap_history < self.base_num_frames
        require("overlap_history", self.overlap_history, moves_on, f"less than base_num_frames={self.base_num_frames}")


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
