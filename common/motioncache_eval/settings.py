"""What the settings of a job have to fulfil, whatever the model."""

import torch

from motioncache.errors import ConfigError, MotionCacheError


def require(name: str, value: object, holds: bool, allowed: str) -> None:
    """Refuse a setting that does not hold."""
    if not holds:
        raise ConfigError(f"{name}: {value!r} is not allowed; allowed: {allowed}")


def require_prompt(prompt: str) -> None:
    require("prompt", prompt, bool(prompt.strip()), "a sentence that says what the video shows")


def require_seed(seed: int) -> None:
    require("seed", seed, 0 <= seed < 2**63, "0 or more")


def require_device(device: str) -> None:
    """Refuse a name that is no device; whether the device is there is for `check_device` to say."""
    kind, _, index = device.partition(":")
    known = kind in ("cpu", "cuda") and (not index or (kind == "cuda" and index.isdigit()))
    require("device", device, known, "cpu, cuda or cuda:N")


def check_device(device: str, cpu_offload: bool) -> None:
    """Refuse a GPU that is not there."""
    wants_cuda = device.startswith("cuda")
    if wants_cuda and not torch.cuda.is_available():
        raise MotionCacheError(f"device={device}, but this machine offers no CUDA device to PyTorch; pass device=cpu")
    index = int(device.partition(":")[2] or 0)
    if wants_cuda and index >= torch.cuda.device_count():
        raise MotionCacheError(f"device={device}, but there are only {torch.cuda.device_count()} CUDA devices")
    if cpu_offload and not wants_cuda:
        raise MotionCacheError("cpu_offload=true needs a GPU to load parts onto; pass device=cuda or cpu_offload=false")
