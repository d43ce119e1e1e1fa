"""Ranks the tokens of recordings by every proxy, and compares each ranking with that by residual change."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache_eval.ranking.measures import MEASURES, Array, random_ndcg
from motioncache_eval.ranking.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Figures by denoise step, as means over videos and chunks; NaN at steps for which a proxy has no value yet.

    Attributes:
        steps: the denoise steps, from 1.
        scores: by proxy and measure, `[steps]`.
        random: what a random order scores, by measure, `[steps]`.
        ratio: mean residual change of moving tokens over that of all others, `[steps]`; NaN if all move or none.
        videos: for each video its prompt, and the mean NDCG of every proxy and of a `random` order.
    """

    steps: list[int]
    scores: dict[str, dict[str, list[float]]]
    random: dict[str, list[float]]
    ratio: list[float]
    videos: list[dict[str, str | float]]


def rank(recordings: Sequence[Recording]) -> Ranking:
    """All figures over several videos."""
    names = list(recordings[0].proxies)
    if any(list(recording.proxies) != names for recording in recordings):
        raise MotionCacheError("the recordings hold different proxies; record all of them with one version")
    steps = sorted({int(step) for recording in recordings for step in recording.step})
    by_video = [_measure_rows(recording) for recording in recordings]
    step_of_row = np.concatenate([recording.step for recording in recordings])
    rows = {key: np.concatenate([video[key] for video in by_video]) for key in by_video[0]}

    def by_step(key: str) -> list[float]:
        return [mean(rows[key][step_of_row == step]) for step in steps]

    return Ranking(
        steps=steps,
        scores={name: {measure: by_step(f"{measure} {name}") for measure in MEASURES} for name in names},
        random={"spearman": [0.0] * len(steps), "auc": [0.5] * len(steps), "ndcg": by_step("random")},
        ratio=by_step("ratio"),
        videos=[
            {"prompt": recording.prompt, "random": mean(video["random"])}
            | {name: mean(video[f"ndcg {name}"]) for name in names}
            for recording, video in zip(recordings, by_video, strict=True)
        ],
    )


def mean(values: Array | Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if len(numbers) else np.nan


def _measure_rows(recording: Recording) -> dict[str, NDArray[np.float64]]:
    """Every figure of every row: `random`, `ratio`, and "MEASURE PROXY" for each measure and proxy."""
    change = recording.change.astype(np.float64)
    figures = {
        "random": np.array([random_ndcg(row) for row in change]),
        "ratio": np.array([_ratio(row, moving) for row, moving in zip(change, recording.moving, strict=True)]),
    }
    for name, scores in recording.proxies.items():
        for measure, function in MEASURES.items():
            figures[f"{measure} {name}"] = np.array(
                [
                    np.nan if np.isnan(score).any() else function(score, row)
                    for score, row in zip(scores, change, strict=True)
                ]
            )
    return figures


def _ratio(change: Array, moving: NDArray[np.bool_]) -> float:
    return float(change[moving].mean() / change[~moving].mean()) if moving.any() and not moving.all() else np.nan


def differences(recordings: Sequence[Recording], steps: NDArray[np.integer]) -> dict[str, Array]:
    """How the residuals of all tokens differ at some denoise steps.

    Returns:
        The differences `[n]` "between steps" and "between frames".
    """
    chosen = [(recording, np.isin(recording.step, steps)) for recording in recordings]
    return {
        "between steps": np.concatenate([recording.change[rows].ravel() for recording, rows in chosen]),
        "between frames": np.concatenate([recording.proxies["residual"][rows].ravel() for recording, rows in chosen]),
    }
