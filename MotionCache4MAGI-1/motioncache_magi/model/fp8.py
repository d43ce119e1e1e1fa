"""Linear layers as the official fp8 checkpoints hold them: all layers but the first and the last have seven of them.

The official kernels round inputs to fp8 as well. Here inputs keep the dtype of the model, so that only the weights are
rounded; both multiply by the same weights.
"""

import torch
from torch import nn
from torch.nn.functional import linear

from motioncache_magi.model.dit import VideoDiT

FP8 = torch.float8_e4m3fn

_SCALED_INPUTS = ("self_attention.linear_qkv.q", "self_attention.linear_qkv.qx", "self_attention.linear_qkv.k",
                  "self_attention.linear_qkv.v", "mlp.linear_fc1")  # fmt: skip
_SMOOTHED = ("self_attention.linear_proj", "mlp.linear_fc2")
"""Their inputs are divided by a scale for each channel, which the weights take back."""

_ROWS_AT_ONCE = 4096
"""Rows of a weight that are in float32 at a time."""


class Fp8Linear(nn.Module):
    """A linear layer without bias that holds its weight in fp8, with the names and shapes of the official checkpoints.

    Its weight is W[o, i] = weight[o, i] * weight_scale * input_scale[0] / s[i], where s is `smooth_scale`, or
    `input_scale` in layers that have none. It is made when the layer is applied.
    """

    def __init__(self, inputs: int, outputs: int, *, smoothed: bool) -> None:
        super().__init__()
        self.weight: torch.Tensor
        self.register_buffer("weight", torch.empty(1, outputs, inputs, dtype=FP8))
        self.register_buffer("weight_scale", torch.empty(1))
        self.register_buffer("input_scale", torch.empty(1 if smoothed else inputs))
        if smoothed:
            self.register_buffer("smooth_scale", torch.empty(1, inputs))
        self._divisor = "smooth_scale" if smoothed else "input_scale"

    @property
    def divisor(self) -> torch.Tensor:
        """What inputs are divided by before they meet the weight, float32 `[inputs]`."""
        return getattr(self, self._divisor).flatten()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.dequantise(x.dtype))

    def dequantise(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight, `[outputs, inputs]`."""
        (weight,) = self.weight
        scale = self.get_buffer("weight_scale") * self.get_buffer("input_scale")[0] / self.divisor
        whole = torch.empty(weight.shape, dtype=dtype, device=weight.device)
        for start in range(0, len(weight), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            whole[rows] = weight[rows].float() * scale
        return whole


def hold_fp8(model: VideoDiT) -> VideoDiT:
    """Give a model the layers of an fp8 checkpoint, without values, in place of those that it has."""
    for layer in model.videodit_blocks.layers[1:-1]:
        for name in (*_SCALED_INPUTS, *_SMOOTHED):
            plain = layer.get_submodule(name)
            assert isinstance(plain, nn.Linear)
            fp8 = Fp8Linear(plain.in_features, plain.out_features, smoothed=name in _SMOOTHED)
            layer.set_submodule(name, fp8)
    return model


def dequantise(model: VideoDiT) -> VideoDiT:
    """Turn all fp8 layers into plain ones of the model's dtype."""
    for name, layer in fp8_layers(model).items():
        weight = layer.dequantise(model.dtype)
        with torch.device("meta"):
            plain = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        plain.weight = nn.Parameter(weight, requires_grad=False)
        model.set_submodule(name, plain.eval())
    return model


def fp8_layers(model: nn.Module) -> dict[str, Fp8Linear]:
    """The fp8 layers by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Fp8Linear)}
