"""Confidence intervals of means over prompts."""

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000
"""Samples that the bootstrap draws."""


def bootstrap_interval(values: Sequence[float], *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`: lower and upper bound.

    Raises:
        ValueError: for fewer than two values, which give no interval.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs two values or more, not {len(values)}")
    sample = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(seed).integers(0, len(sample), size=(DRAWS, len(sample)))
    low, high = np.quantile(sample[rows].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
