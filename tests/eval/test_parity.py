"""Tolerances of golden data, and that their floors are about rounding."""

import torch

from motioncache.distance import relative_l1
from motioncache.motion import Normalisation, motion_score, motion_weight
from motioncache_eval.parity import DISTANCE_ROUNDING, EXACT, WEIGHT_ROUNDING, FileReport, Floor, Tolerance


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def passes(ours: torch.Tensor, golden: torch.Tensor, tolerance: Tolerance) -> bool:
    report = FileReport("x")
    report.compare("quantity", ours, golden, tolerance)
    return report.passed


def test_absolute_relative_and_deviation_add_up() -> None:
    tolerance = Tolerance(name="sum", absolute=0.1, relative=0.01, deviation=0.001)
    # mean 5, both values 3 away from it: a standard deviation of 3.
    # 0.1 + 0.01 * 2 + 0.001 * 3 = 0.123 and 0.1 + 0.01 * 8 + 0.001 * 3 = 0.183
    assert torch.allclose(tolerance.allowed(values(2, 8)), values(0.123, 0.183))


def test_an_exact_tolerance_allows_nothing() -> None:
    assert EXACT.allowed(values(-3, 0, 3)).tolist() == [0, 0, 0]


def test_the_floor_counts_where_it_is_above_the_tolerance_and_is_not_added() -> None:
    tolerance = Tolerance(name="floor", relative=0.1, floor=Floor(absolute=0.5))
    # 0.1 * 2 = 0.2 is below the floor of 0.5, and 0.1 * 8 = 0.8 above it.
    assert torch.allclose(tolerance.allowed(values(2, -2, 8)), values(0.5, 0.5, 0.8))


def test_a_floor_ends_at_its_bound() -> None:
    floor = Floor(relative=0.5, below=4)
    assert floor.allowed(values(2, -2, 4, 6)).tolist() == [1, 1, 0, 0]  # half of 2; nothing from 4 on


def test_weights_may_be_2e_6_apart() -> None:
    tolerance = Tolerance(name="weights", absolute=1e-6, floor=WEIGHT_ROUNDING)
    golden = values(0.3, 1)
    assert passes(golden + 1.9e-6, golden, tolerance)
    assert not passes(golden + 2.1e-6, golden, tolerance)


def test_distances_may_be_2e_5_apart_below_1e_3_and_1e_5_above() -> None:
    tolerance = Tolerance(name="distances", relative=1e-5, floor=DISTANCE_ROUNDING)
    for golden, below, above in ((9e-4, 1.9e-5, 2.1e-5), (1e-6, 1.9e-5, 2.1e-5), (1.1e-3, 0.9e-5, 1.1e-5)):
        assert passes(values(golden) * (1 + below), values(golden), tolerance)
        assert not passes(values(golden) * (1 + above), values(golden), tolerance)
    assert tolerance.allowed(values(0)).tolist() == [0]


def test_float32_moves_small_distances_by_more_than_1e_5_and_less_than_2e_5() -> None:
    """The same signals in float64 and rounded to float32: an error that grows as the distance shrinks."""
    worst: dict[float, float] = {}
    for change in (3e-2, 3e-3, 3e-4):
        errors: list[float] = []
        for seed in range(100):
            generator = torch.Generator().manual_seed(seed)
            before, noise = torch.randn(2, 1, 5, 6, 32, generator=generator, dtype=torch.float64)
            now = before + change * noise
            exact = float((now - before).abs().mean() / before.abs().mean())
            errors.append(abs(float(relative_l1(now.float(), before.float())) / exact - 1))
        worst[change] = max(errors)
    assert worst[3e-2] < 1e-6
    assert worst[3e-3] < 1e-5
    assert 1e-5 < worst[3e-4] < DISTANCE_ROUNDING.relative


def test_float32_moves_weights_by_more_than_1e_6_and_less_than_2e_6() -> None:
    """The same inputs, computed with in float32 and in float64."""
    worst = 0.0
    for seed in range(300):
        hidden = torch.randn(2, 5, 12, 32, generator=torch.Generator().manual_seed(seed))
        score = motion_score(hidden, None, missing=torch.nan)
        exact = (hidden.double().diff(dim=1).abs().mean((0, 3))) / (hidden[:, :-1].double().abs().mean((0, 3)) + 1e-8)
        ours = motion_weight(score, Normalisation.max_rescale, 0.3)[1:]
        error = (ours - motion_weight(exact, Normalisation.max_rescale, 0.3)).abs().max()
        worst = max(worst, float(error))
    assert 1e-6 < worst < WEIGHT_ROUNDING.absolute
