"""Runs the autoencoder's convolutions on a CPU several times faster than torch's own over three dimensions."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional


def flatten_convolutions(model: nn.Module) -> None:
    """Run a model's convolutions over time and space as convolutions over space.

    The frames that a kernel sees become channels. The results are the same up to rounding, and decoding takes a third
    of the time on one core.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv3d) and _is_plain(module):
            module._conv_forward = partial(_convolve, module.weight.shape[2])  # pyright: ignore


def _is_plain(module: nn.Conv3d) -> bool:
    """Whether a convolution has stride 1 and no padding of its own. Causal convolutions pad before they call it."""
    ones = (1, 1, 1)
    return module.stride == ones and module.dilation == ones and module.padding == (0, 0, 0) and module.groups == 1


def _convolve(taps: int, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """What `torch.nn.Conv3d` computes from `x`, `[B, C, frames, height, width]`."""
    windows = x.unfold(2, taps, 1).permute(0, 2, 5, 1, 3, 4)  # [B, frames out, taps, C, height, width]
    flat = weight.transpose(1, 2).flatten(1, 2)  # [channels out, taps * C, rows, columns]
    result = functional.conv2d(windows.flatten(2, 3).flatten(0, 1), flat, bias)
    return result.unflatten(0, windows.shape[:2]).transpose(1, 2)
