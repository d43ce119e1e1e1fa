"""Tells weights that are what they look like from those that are packed: quantised, sharded, or not in memory."""

from typing import TypeGuard

import torch
from torch import nn


def is_plain(weight: object) -> TypeGuard[torch.Tensor]:
    """Whether a weight is in memory, and its values are those that the layer multiplies by."""
    if type(weight) not in (torch.Tensor, nn.Parameter) or not isinstance(weight, torch.Tensor):
        return False
    return weight.is_floating_point() and not weight.is_meta


def is_plain_linear(layer: object) -> TypeGuard[nn.Linear]:
    """Whether a layer is x W^T + b with plain weights, and nothing is hung on it: no adapter, no other forward."""
    if type(layer) is not nn.Linear or "forward" in vars(layer):
        return False
    return all(is_plain(weight) for weight in layer.parameters(recurse=False))
