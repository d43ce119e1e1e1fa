"""How well does a motion proxy rank tokens by residual change? `python -m motioncache_eval.ranking RECORDINGS`.

Per denoise step of a chunk, the tokens of the chunk are ranked by each proxy of `motioncache_eval.recording` and by
their residual change. Three figures compare the two rankings, each beside what a random order scores:

The recorded runs compute everything, so a proxy stands here at its best: a cache knows older values of some of them.

- Spearman: correlation of the ranks; 0 for a random order.
- AUC: chance that a token of the quarter that changes most is ranked above one of the others; 0.5 for a random order.
- NDCG: gain of a token is its residual change, discounted by log2(rank + 1), over the best order; what a random order
  scores depends on how even the changes are, and is often above 0.9.

Beside it: how the residual differs from one denoise step to the next, and from one latent frame to the next, as
densities over all tokens. Reuse over steps errs by the first; a method that filled in frames from their neighbours
would err by the second.

Writes `ranking.json`, `ranking.md`, `ranking.png` and `density.png` to the folder of `--output`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache_eval.command import run_command
from motioncache_eval.figures import new_figure
from motioncache_eval.recording import Recording
from motioncache_eval.report import write_json

TOP_SHARE = 0.25
"""Share of the tokens, those that change most, that AUC asks for."""

MEASURES = ("spearman", "auc", "ndcg")
PHASES = ("early", "mid", "late")
"""Thirds of the denoise steps."""

Array = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Figures by denoise step, means over videos and chunks; NaN at steps where a proxy is not known yet.

    Attributes:
        steps: the denoise steps, from 1.
        scores: by proxy and measure, `[steps]`.
        random: by measure, what a random order scores, `[steps]`.
        ratio: mean residual change of moving tokens over that of all others, `[steps]`; NaN where all move or none.
        videos: for each video its prompt, and by proxy and for `random` the mean NDCG.
    """

    steps: list[int]
    scores: dict[str, dict[str, list[float]]]
    random: dict[str, list[float]]
    ratio: list[float]
    videos: list[dict[str, str | float]]


def ranks(x: Array) -> NDArray[np.float64]:
    """Ranks from 1, the lowest first; equal values share the mean of their ranks."""
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def spearman(score: Array, change: Array) -> float:
    """Rank correlation; 0 where one of the two is constant."""
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
    return _gain(gain) / _gain(np.sort(change)[::-1])


def random_ndcg(change: Array) -> float:
    """Expected NDCG of a random order: every rank gains the mean change."""
    return _gain(np.full(len(change), change.mean())) / _gain(np.sort(change)[::-1])


def _gain(gain: Array) -> float:
    return float(gain @ (1 / np.log2(np.arange(len(gain)) + 2)))


def rank(recordings: Sequence[Recording]) -> Ranking:
    """All figures over several videos."""
    names = list(recordings[0].proxies)
    if any(list(recording.proxies) != names for recording in recordings):
        raise MotionCacheError("the recordings hold different proxies; record all of them with one version")
    steps = sorted({int(step) for recording in recordings for step in recording.step})
    by_video = [_measure_rows(recording) for recording in recordings]
    step = np.concatenate([recording.step for recording in recordings])
    rows = {key: np.concatenate([video[key] for video in by_video]) for key in by_video[0]}

    def over_rows(key: str) -> list[float]:
        return [_mean(rows[key][step == s]) for s in steps]

    return Ranking(
        steps=steps,
        scores={name: {measure: over_rows(f"{measure} {name}") for measure in MEASURES} for name in names},
        random={"spearman": [0.0] * len(steps), "auc": [0.5] * len(steps), "ndcg": over_rows("random")},
        ratio=over_rows("ratio"),
        videos=[
            {"prompt": recording.prompt, "random": _mean(video["random"])}
            | {name: _mean(video[f"ndcg {name}"]) for name in names}
            for recording, video in zip(recordings, by_video, strict=True)
        ],
    )


def _measure_rows(recording: Recording) -> dict[str, NDArray[np.float64]]:
    """Every figure of every row."""
    change = recording.change.astype(np.float64)
    figures = {
        "random": np.array([random_ndcg(row) for row in change]),
        "ratio": np.array([_ratio(row, moving) for row, moving in zip(change, recording.moving, strict=True)]),
    }
    for name, scores in recording.proxies.items():
        for measure, function in (("spearman", spearman), ("auc", auc), ("ndcg", ndcg)):
            figures[f"{measure} {name}"] = np.array(
                [
                    np.nan if np.isnan(score).any() else function(score, row)
                    for score, row in zip(scores, change, strict=True)
                ]
            )
    return figures


def _ratio(change: Array, moving: NDArray[np.bool_]) -> float:
    return float(change[moving].mean() / change[~moving].mean()) if moving.any() and not moving.all() else np.nan


def _mean(values: Array | Sequence[float]) -> float:
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else np.nan


def _nan_to_none(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _nan_to_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(inner) for inner in value]
    return None if value != value else value


def table(ranking: Ranking) -> str:
    """Means over thirds of the steps, and NDCG by video, as Markdown."""
    thirds = np.array_split(np.arange(len(ranking.steps)), len(PHASES))
    spans = [f"{phase} ({ranking.steps[t[0]]}-{ranking.steps[t[-1]]})" for phase, t in zip(PHASES, thirds, strict=True)]

    def row(name: str, scores: dict[str, list[float]]) -> str:
        cells = [f"{_mean(np.array(scores[m])[t]):.3f}" for m in MEASURES for t in thirds]
        return f"| {name} | {' | '.join(cells)} |"

    heads = [f"{label} {span}" for label in ("Spearman", "AUC", "NDCG") for span in spans]
    ratios = ", ".join(
        f"{_mean(np.array(ranking.ratio)[t]):.2f} {phase}" for phase, t in zip(PHASES, thirds, strict=True)
    )
    names = ["random", *ranking.scores]
    return "\n".join(
        [
            f"{len(ranking.videos)} videos; means over videos, chunks and the denoise steps in brackets. Proxies are "
            "frame differences of what they are called after; `detail` is the distance from the mean of the latent "
            "frame, `last change` the residual change of the step before. The published method takes "
            "`hidden, relative`.",
            "",
            f"| proxy | {' | '.join(heads)} |",
            f"|---|{'--:|' * len(heads)}",
            row("*random order*", ranking.random),
            *(row(name, scores) for name, scores in ranking.scores.items()),
            "",
            f"Residual change of moving tokens over that of all others: {ratios}.",
            "",
            "NDCG by video, mean over all steps:",
            "",
            f"| video | {' | '.join(names)} |",
            f"|---|{'--:|' * len(names)}",
            *(
                f"| {video['prompt']} | {' | '.join(f'{video[name]:.3f}' for name in names)} |"
                for video in ranking.videos
            ),
            "",
        ]
    )


def draw(path: Path, ranking: Ranking) -> None:
    """One panel per measure over the denoise steps, and the ratio of moving to other tokens."""
    figure = new_figure(figsize=(12, 7.5))
    panels = figure.subplots(2, 2, sharex=True).ravel()
    labels = {
        "spearman": "Spearman",
        "auc": f"AUC of the {TOP_SHARE:.0%} that change most",
        "ndcg": "NDCG",
    }
    for panel, measure in zip(panels, MEASURES, strict=False):
        for i, (name, scores) in enumerate(ranking.scores.items()):
            panel.plot(ranking.steps, scores[measure], color=f"C{i}", linewidth=2.2 if i == 0 else 1.2, label=name)
        panel.plot(ranking.steps, ranking.random[measure], color="black", linestyle="--", label="random order")
        panel.set_title(labels[measure], fontsize=10)
    panels[-1].plot(ranking.steps, ranking.ratio, color="black")
    panels[-1].axhline(1, color="black", linestyle="--")
    panels[-1].set_title("residual change of moving tokens over that of all others", fontsize=10)
    for panel in panels:
        panel.grid(alpha=0.3)
    for panel in panels[2:]:
        panel.set_xlabel("denoise step of the chunk")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=6, loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=100)


def draw_density(path: Path, recordings: Sequence[Recording]) -> None:
    """Densities of the residual's differences over tokens, one panel for each third of the steps."""
    figure = new_figure(figsize=(12, 3.6))
    panels = figure.subplots(1, len(PHASES), sharex=True, sharey=True)
    last = max(int(recording.step.max()) for recording in recordings)
    thirds = np.array_split(np.arange(1, last + 1), len(PHASES))
    for panel, phase, steps in zip(panels, PHASES, thirds, strict=True):
        for i, (label, values) in enumerate(differences(recordings, steps).items()):
            logs = np.log10(values[values > 0])
            panel.hist(logs, bins=80, density=True, histtype="stepfilled", alpha=0.5, color=f"C{i}", label=label)
            panel.axvline(float(np.median(logs)), color=f"C{i}", linestyle="--")
        panel.set_title(f"{phase}: steps {steps[0]} to {steps[-1]}", fontsize=10)
        panel.set_xlabel("log10 of the mean absolute difference")
    panels[0].set_ylabel("density over tokens")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)


def differences(recordings: Sequence[Recording], steps: NDArray[np.integer]) -> dict[str, Array]:
    """By what the residuals are compared between: the differences of all tokens at some steps, `[n]`."""
    rows = [(recording, np.isin(recording.step, steps)) for recording in recordings]
    return {
        "between steps": np.concatenate([recording.change[kept].ravel() for recording, kept in rows]),
        "between frames": np.concatenate([recording.proxies["residual"][kept].ravel() for recording, kept in rows]),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m motioncache_eval.ranking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recordings", type=Path, help="folder of recordings, one .npz a video")
    parser.add_argument("--output", type=Path, required=True, help="folder for the table and the plot")
    options = parser.parse_args(arguments)
    return run_command(lambda: run(options.recordings, options.output))


def run(recordings: Path, output: Path) -> int:
    """Read, rank, write."""
    files = sorted(recordings.glob("*.npz"))
    if not files:
        raise MotionCacheError(f"{recordings} holds no recordings: make some with a model's `record` command")
    recorded = [Recording.load(file) for file in files]
    ranking = rank(recorded)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "ranking.json", {name: _nan_to_none(getattr(ranking, name)) for name in Ranking.__slots__})
    text = table(ranking)
    (output / "ranking.md").write_text(text)
    draw(output / "ranking.png", ranking)
    draw_density(output / "density.png", recorded)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
