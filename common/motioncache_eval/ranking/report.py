"""The report of a ranking: its figures as JSON, tables, and plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motioncache_eval.figures import new_figure
from motioncache_eval.ranking.measures import MEASURES, TOP_SHARE
from motioncache_eval.ranking.rank import Ranking, differences, mean
from motioncache_eval.ranking.recording import Recording
from motioncache_eval.report import write_json
from motioncache_eval.table import Table

PHASES = ("early", "mid", "late")
"""Thirds of the denoise steps."""

LABELS = {"spearman": "Spearman", "auc": "AUC", "ndcg": "NDCG"}


def write_figures(path: Path, ranking: Ranking) -> None:
    """Write all figures as JSON, with null for NaN."""
    write_json(path, {name: _nan_to_none(getattr(ranking, name)) for name in Ranking.__slots__})


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_nan_to_none(inner) for inner in value]
    return None if value != value else value


def table(ranking: Ranking) -> str:
    """The means over thirds of the steps, and NDCG by video, as Markdown."""
    thirds = np.array_split(np.arange(len(ranking.steps)), len(PHASES))
    ratios = ", ".join(
        f"{mean(np.array(ranking.ratio)[third]):.2f} {phase}" for phase, third in zip(PHASES, thirds, strict=True)
    )
    return "\n".join(
        [
            f"{len(ranking.videos)} videos; means over videos, chunks and the denoise steps in brackets. Proxies are "
            "frame differences of what they are called after; `detail` is the distance from the mean of the latent "
            "frame, `last change` the residual change of the step before. The published method takes "
            "`hidden, relative`.",
            "",
            *_proxy_table(ranking, thirds).markdown(),
            "",
            f"Residual change of moving tokens over that of all others: {ratios}.",
            "",
            "NDCG by video, mean over all steps:",
            "",
            *_video_table(ranking).markdown(),
            "",
        ]
    )


def _proxy_table(ranking: Ranking, thirds: Sequence[NDArray[np.integer]]) -> Table:
    """Every measure in every third of the steps, a row for each proxy."""
    steps = ranking.steps
    spans = [f"{phase} ({steps[t[0]]}-{steps[t[-1]]})" for phase, t in zip(PHASES, thirds, strict=True)]
    rows = [("*random order*", ranking.random), *ranking.scores.items()]
    return Table(
        title="Measures",
        header=["proxy", *(f"{LABELS[measure]} {span}" for measure in MEASURES for span in spans)],
        rows=[
            [name, *(f"{mean(np.array(scores[measure])[third]):.3f}" for measure in MEASURES for third in thirds)]
            for name, scores in rows
        ],
    )


def _video_table(ranking: Ranking) -> Table:
    """NDCG of every proxy, a row for each video."""
    names = ["random", *ranking.scores]
    return Table(
        title="NDCG by video",
        header=["video", *names],
        rows=[[str(video["prompt"]), *(f"{video[name]:.3f}" for name in names)] for video in ranking.videos],
    )


def draw_measures(path: Path, ranking: Ranking) -> None:
    """Draw one panel per measure over the denoise steps, and the ratio of moving to other tokens."""
    figure = new_figure(figsize=(12, 7.5))
    panels = figure.subplots(2, 2, sharex=True).ravel()
    labels = LABELS | {"auc": f"AUC of the {TOP_SHARE:.0%} that change most"}
    *measure_panels, ratio_panel = panels
    for panel, measure in zip(measure_panels, MEASURES, strict=True):
        for i, (name, scores) in enumerate(ranking.scores.items()):
            panel.plot(ranking.steps, scores[measure], color=f"C{i}", linewidth=2.2 if i == 0 else 1.2, label=name)
        panel.plot(ranking.steps, ranking.random[measure], color="black", linestyle="--", label="random order")
        panel.set_title(labels[measure], fontsize=10)
    ratio_panel.plot(ranking.steps, ranking.ratio, color="black")
    ratio_panel.axhline(1, color="black", linestyle="--")
    ratio_panel.set_title("residual change of moving tokens over that of all others", fontsize=10)
    for panel in panels:
        panel.grid(alpha=0.3)
    for panel in panels[2:]:
        panel.set_xlabel("denoise step of the chunk")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=6, loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=100)


def draw_density(path: Path, recordings: Sequence[Recording]) -> None:
    """Draw the densities of the residual's differences over tokens, one panel for each third of the steps."""
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
