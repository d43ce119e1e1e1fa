"""Measures of how well a score orders tokens by their residual change; pure functions of one row of tokens."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

TOP_SHARE = 0.25
"""Share of the tokens, those that change most, that AUC asks for."""


def ranks(x: Array) -> NDArray[np.float64]:
    """Ranks from 1, the lowest first; equal values share the mean of their ranks."""
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def spearman(score: Array, change: Array) -> float:
    """Rank correlation; 0 if one of the two is constant."""
    a, b = ranks(score), ranks(change)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def auc(score: Array, change: Array) -> float:
    """Chance that the score puts a token of the `TOP_SHARE` that changes most above one of the others."""
    top = ranks(change) > (1 - TOP_SHARE) * len(change)
    wanted, others = int(top.sum()), int((~top).sum())
    if not wanted or not others:
        return 0.5
    return float((ranks(score)[top].sum() - wanted * (wanted + 1) / 2) / (wanted * others))


def ndcg(score: Array, change: Array) -> float:
    """Normalised discounted cumulative gain of the order by score; equal scores share their mean gain."""
    order = np.argsort(-score, kind="stable")
    _, group, counts = np.unique(-score[order], return_inverse=True, return_counts=True)
    gain = (np.bincount(group, change[order]) / counts)[group]
    return _discounted(gain) / _discounted(np.sort(change)[::-1])


def random_ndcg(change: Array) -> float:
    """Expected NDCG of a random order: every rank gains the mean change."""
    return _discounted(np.full(len(change), change.mean())) / _discounted(np.sort(change)[::-1])


def _discounted(gain: Array) -> float:
    """Sum of the gains, each divided by log2(rank + 1)."""
    return float(gain @ (1 / np.log2(np.arange(len(gain)) + 2)))


MEASURES: dict[str, Callable[[Array, Array], float]] = {"spearman": spearman, "auc": auc, "ndcg": ndcg}
