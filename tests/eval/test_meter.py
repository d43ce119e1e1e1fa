"""Time, FLOPs and memory of a model's methods."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from motioncache.errors import MotionCacheError
from motioncache_eval.meter import FlopCount, Meter, PeakMemory


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(*(self.linear(x)[None, None] for _ in range(3)))


def test_flops_are_those_of_products_and_of_attention() -> None:
    model = Model()
    with torch.inference_mode(), Meter(model, ["forward"], device="cpu") as meter:
        model(torch.zeros(4, 8))
        model(torch.zeros(4, 8))
    linear, attention = 3 * 2 * 4 * 8 * 16, 2 * 2 * 4 * 4 * 16
    assert meter.flops == 2 * (linear + attention)
    assert meter.seconds > 0


@pytest.mark.parametrize(
    ("call", "shapes", "flops"),
    [
        (lambda a, b: a @ b, [(2, 3, 4), (4, 5)], 2 * 2 * 3 * 4 * 5),
        (torch.bmm, [(2, 3, 4), (2, 4, 5)], 2 * 2 * 3 * 4 * 5),
        (lambda x, w: functional.linear(input=x, weight=w), [(3, 4), (5, 4)], 2 * 3 * 4 * 5),
        (torch.addmm, [(3, 5), (3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (functional.conv3d, [(1, 2, 4, 4, 4), (6, 2, 3, 3, 3)], 2 * 6 * 8 * 2 * 27),
        (lambda x, weight: functional.conv2d(x, weight, groups=2), [(1, 4, 4, 4), (6, 2, 3, 3)], 2 * 6 * 4 * 2 * 9),
        (lambda a, b: a + b, [(3, 4), (3, 4)], 0),
    ],
)
def test_each_product_is_counted_as_torch_counts_it(call: Any, shapes: list[tuple[int, ...]], flops: int) -> None:
    inputs = [torch.zeros(shape) for shape in shapes]
    with FlopCount() as ours:
        call(*inputs)
    with FlopCounterMode(display=False) as theirs:
        call(*inputs)
    assert ours.flops == theirs.get_total_flops() == flops


def test_what_cannot_be_counted_is_refused() -> None:
    with FlopCount(), pytest.raises(MotionCacheError, match="FLOPs of einsum"):
        torch.einsum("ij,jk", torch.zeros(2, 3), torch.zeros(3, 4))
    with FlopCount(), pytest.raises(MotionCacheError, match="FLOPs of einsum"):
        torch.einsum("ij,jk->ik", torch.zeros(2, 3), torch.zeros(3, 4))
    with FlopCount() as counter:
        torch.einsum("d,bt->dbt", torch.zeros(2), torch.zeros(3, 4))
    assert counter.flops == 0  # nothing is summed


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
