"""Time, FLOPs and memory of a model's methods."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from motioncache_eval.meter import Meter, PeakMemory


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(*(self.linear(x)[None, None] for _ in range(3)))


def test_flops_are_those_of_products_and_of_attention() -> None:
    model = Model()
    with torch.inference_mode(), Meter(model, ["forward"], device="cpu", count=True) as meter:
        model(torch.zeros(4, 8))
        model(torch.zeros(4, 8))
    linear, attention = 3 * 2 * 4 * 8 * 16, 2 * 2 * 4 * 4 * 16
    assert meter.flops == 2 * (linear + attention)
    assert meter.seconds > 0


def test_the_model_is_as_it_was() -> None:
    model = Model()
    meter = Meter(model, ["forward"], device="cpu")
    with pytest.raises(RuntimeError, match="shapes"), meter:
        model(torch.zeros(4, 9))
    assert "forward" not in vars(model)
    own = model.forward
    model.forward = own  # somebody else's change stays
    with meter:
        assert vars(model)["forward"] is not own
    assert vars(model)["forward"] is own


def test_peak_memory_is_that_of_the_block() -> None:
    with PeakMemory("cpu") as small:
        pass
    if small.bytes is None:
        pytest.skip("the peak of a process is known on Linux alone")
    with PeakMemory("cpu") as large:
        torch.ones(50_000_000)
    assert large.bytes is not None
    assert large.bytes - small.bytes > 150e6
