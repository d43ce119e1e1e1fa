import pytest
import torch

from motioncache.distance import polynomial, relative_l1


def test_relative_l1_is_the_mean_change_over_the_mean_size() -> None:
    # changes 1 and 3, sizes 2 and 6: 2 / 4
    assert relative_l1(torch.tensor([3.0, 9.0]), torch.tensor([2.0, 6.0])).item() == pytest.approx(0.5)


def test_kept_dimensions_have_their_own_distance() -> None:
    before = torch.tensor([[2.0, 2.0], [4.0, 4.0]])
    now = torch.tensor([[3.0, 3.0], [4.0, 4.0]])
    assert relative_l1(now, before, keep=(0,)).tolist() == pytest.approx([0.5, 0.0])


def test_a_zero_signal_gives_no_division_by_zero() -> None:
    assert relative_l1(torch.zeros(3), torch.zeros(3)).item() == 0


def test_the_polynomial_starts_with_its_highest_power() -> None:
    assert polynomial(2.0, (3.0, 1.0, 5.0)) == 3 * 4 + 1 * 2 + 5
    assert polynomial(torch.tensor([2.0, 0.0]), (3.0, 1.0, 5.0)).tolist() == [19.0, 5.0]
