"""Two pictures: quality over cost, and quality over the chunks of a video."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from motioncache_eval.bench.rows import Row
from motioncache_eval.figures import new_figure
from motioncache_eval.intervals import bootstrap_interval
from motioncache_eval.looks import DASHES, Look, family_looks
from motioncache_eval.metrics import IDENTICAL

BESIDE: dict[str, Any] = {"fontsize": 8, "loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False}
"""Where the legend is and hides nothing."""


def curve(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Points of PSNR over counted FLOPs, for the methods that change the video and were measured on all prompts."""
    points = []
    prompts = max((len(row.cells) for row in rows), default=0)
    for row in rows:
        flops, values = row.mean("flops"), row.values("psnr_db")
        if flops is None or len(row.cells) < prompts or len(values) < 2 or statistics.mean(values) >= IDENTICAL:
            continue
        low, high = bootstrap_interval(values)
        quality = statistics.mean(values)
        points.append(
            {"name": row.name, "family": row.family, "cost": flops / 1e12, "quality": quality, "low": low, "high": high}
        )
    return points


def draw_curve(path: Path, points: Sequence[Mapping[str, Any]]) -> None:
    """Draw PSNR over counted FLOPs; a line joins each family."""
    figure = new_figure(figsize=(9.5, 5))
    axes = figure.subplots()
    for family, look in family_looks(point["family"] for point in points).items():
        own = sorted((point for point in points if point["family"] == family), key=lambda point: point["cost"])
        below = [point["quality"] - point["low"] for point in own]
        above = [point["high"] - point["quality"] for point in own]
        costs, qualities = [point["cost"] for point in own], [point["quality"] for point in own]
        axes.errorbar(costs, qualities, yerr=[below, above], label=family, capsize=2, elinewidth=1, **_style(look))
    axes.set_xlabel("TFLOPs per video, counted")
    axes.set_ylabel("PSNR against the uncached video, dB")
    axes.grid(alpha=0.3)
    if points:
        axes.legend(**BESIDE)
    figure.savefig(path, dpi=110)


def _style(look: Look) -> dict[str, Any]:
    """The look of a family, in matplotlib's words; ours lies on top."""
    return {
        "color": look.colour,
        "marker": look.marker,
        "markersize": 6 if look.accent else 5,
        "markerfacecolor": "white" if look.hollow else look.colour,
        "linewidth": 2.6 if look.accent else 1.3,
        "linestyle": (0, look.dashes) if look.dashes else "-",
        "zorder": 4 if look.accent else 2,
    }


def draw_drift(path: Path, rows: Sequence[Row]) -> None:
    """Draw each chunk's PSNR, the mean over the prompts, for the methods that change the video."""
    figure = new_figure(figsize=(9.5, 5))
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    looks = family_looks(row.family for row in rows)
    for row in rows:
        chunks = [cell["psnr_of_chunks_db"] for cell in row.cells if len(cell["psnr_of_chunks_db"]) > 1]
        if not chunks or statistics.mean(row.values("psnr_db")) >= IDENTICAL:
            continue
        means = [statistics.mean(values) for values in zip(*chunks, strict=False)]
        earlier = sum(line.get_gid() == row.family for line in axes.lines)
        style = _style(looks[row.family])
        if earlier:
            style["linestyle"] = (0, DASHES[earlier % len(DASHES)])
        axes.plot(range(1, len(means) + 1), means, label=row.name, gid=row.family, markevery=0.1, **style)
    axes.set_xlabel("chunk")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("PSNR against the uncached video, dB")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(**BESIDE)
    figure.savefig(path, dpi=110)
