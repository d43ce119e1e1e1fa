"""Launches, waits and copies are counted on meta tensors, one operator at a time and in whole model calls."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from motioncache_eval.device_calls import Counts, DeviceCalls

X = torch.zeros(4, 6, device="meta")
MASK = torch.zeros(4, dtype=torch.bool, device="meta")


def count(run: Callable[[], object]) -> Counts:
    with DeviceCalls() as calls:
        run()
    return calls.counts


WAITS: dict[str, Callable[[], object]] = {
    "item": lambda: X.sum().item(),
    "float": lambda: float(X[0, 0]),
    "bool": lambda: bool((X > 0).any()),
    "tolist": lambda: [float(one) for one in X[0, :1]],
    "to the host": lambda: X.cpu(),
    "copied to the host": lambda: torch.zeros(4, 6).copy_(X),
    "equal": lambda: torch.equal(X, X),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_the_host_waits_for_is_counted(name: str) -> None:
    assert count(WAITS[name]).waits == 1


@pytest.mark.parametrize(
    "run", [lambda: MASK.nonzero(), lambda: X[MASK], lambda: torch.masked_select(X, X > 0)], ids=["1", "2", "3"]
)
def test_what_has_no_shape_before_it_is_computed_is_counted(run: Callable[[], object]) -> None:
    with DeviceCalls() as calls, pytest.raises(RuntimeError):  # torch's own, on meta tensors
        run()
    assert calls.counts.waits == 1


COPIES: dict[str, Callable[[], object]] = {
    "tensor": lambda: torch.tensor([1.0], device="meta"),
    "as_tensor": lambda: torch.as_tensor(1.0, device="meta"),
    "new_tensor": lambda: X.new_tensor([1.0]),
    "to": lambda: torch.zeros(3).to("meta"),
    "copy_": lambda: X.copy_(torch.zeros(4, 6)),
    "index by a list": lambda: X[[0, 2]],
    "index of the host": lambda: X[:, torch.tensor([0, 2])],
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_to_the_device_is_counted(name: str) -> None:
    counts = count(COPIES[name])
    assert (counts.copies, counts.waits) == (1, 0)


@torch.inference_mode()
def test_operators_that_are_made_of_others_count_alike_in_inference_mode() -> None:
    x = torch.zeros(4, 6, device="meta")
    assert count(lambda: x.cpu()).waits == 1
    assert count(lambda: x.chunk(2)[0].reshape(-1)) == Counts()
    counts = count(lambda: x.matmul(x.T.contiguous()))
    assert (counts.launches, counts.flops) == (2, 2 * 4 * 4 * 6)


def test_what_stays_on_the_device_is_a_launch_and_nothing_else() -> None:
    rows = torch.zeros(2, dtype=torch.int64, device="meta")
    counts = count(lambda: (X + 1, X.index_select(0, rows), torch.full((3,), 2.0, device="meta"), X[rows]))
    assert (counts.launches, counts.waits, counts.copies) == (4, 0, 0)
    assert count(lambda: (X.view(-1), X.T, X[:2], X.unflatten(1, (2, 3)))) == Counts()
    assert count(lambda: torch.zeros(3) + float(torch.ones(()))) == Counts()  # of the host


def test_flops_bytes_and_attention() -> None:
    weight = torch.zeros(5, 6, device="meta")
    counts = count(lambda: linear(X, weight))
    assert counts.flops == 2 * 4 * 5 * 6
    assert counts.bytes == 4 * (4 * 6 + 5 * 6 + 4 * 5)
    heads = torch.zeros(1, 2, 3, 8, device="meta")
    counts = count(lambda: scaled_dot_product_attention(heads, heads, heads))
    assert (counts.launches, counts.flops) == (1, 4 * 2 * 3 * 3 * 8)


def test_a_mask_that_is_read_has_the_share_that_was_asked_for() -> None:
    with DeviceCalls(due=0.75):
        assert MASK.cpu().tolist() == [True, True, True, False]
