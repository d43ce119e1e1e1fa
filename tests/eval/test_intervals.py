"""The bootstrap interval of a mean."""

import numpy as np
import pytest

from motioncache_eval.intervals import bootstrap_interval


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(3.0, 2.0, size=40).tolist())
        covered += low <= 3.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_it_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(values.tolist())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)
    assert bootstrap_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


def test_one_value_has_none() -> None:
    with pytest.raises(ValueError, match="two values or more"):
        bootstrap_interval([1.0])
