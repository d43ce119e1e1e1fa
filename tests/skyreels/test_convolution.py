"""Convolutions over time and space as convolutions over space: the same results."""

import pytest
import torch
from torch import nn

from motioncache_diffusers.convolution import flatten_convolutions

from .conftest import make_pipeline


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 1, 1), (3, 1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_what_it_was(kernel: tuple[int, int, int], bias: bool) -> None:
    torch.manual_seed(0)
    module = nn.Conv3d(4, 6, kernel, bias=bias)
    x = torch.randn(2, 4, 5, 8, 9)
    before = module(x)
    flatten_convolutions(module)
    assert "_conv_forward" in vars(module)
    assert torch.allclose(module(x), before, atol=1e-5)


def test_other_convolutions_are_left_alone() -> None:
    for options in ({"stride": 2}, {"padding": 1}, {"groups": 2}, {"dilation": 2}):
        module = nn.Conv3d(4, 4, 3, **options)
        flatten_convolutions(module)
        assert "_conv_forward" not in vars(module)


def test_the_autoencoder_decodes_as_before() -> None:
    vae = make_pipeline().vae
    latents = torch.randn(1, vae.config.z_dim, 3, 4, 6)
    with torch.inference_mode():
        before = vae.decode(latents).sample
        flatten_convolutions(vae)
        assert torch.allclose(vae.decode(latents).sample, before, atol=1e-5)
