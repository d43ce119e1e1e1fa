"""Figures that show what a cache did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from motioncache.extras import require_extra
from motioncache.record import Phase, Record
from motioncache.trace import Trace

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMPUTED, PARTIAL, REUSED = "#b8322a", "#eda33b", "#d9dee5"


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionMap:
    """One decision of the token phase, to be drawn over the frame that it belongs to.

    Attributes:
        frame: uint8 `[height, width, 3]`.
        weight: motion weights of one latent frame, `[rows, columns]`.
        reused: the tokens that were reused, bool `[rows, columns]`.
        title: says which chunk, denoise step and latent frame this is.
    """

    frame: NDArray[np.uint8]
    weight: NDArray[np.float32]
    reused: NDArray[np.bool_]
    title: str


def new_figure(**options: Any) -> "Figure":
    """An empty figure with a layout in which nothing overlaps."""
    require_extra("matplotlib", "drawing figures")
    from matplotlib.figure import Figure

    return Figure(**options, layout="constrained")


def draw_decisions(path: Path, trace: Trace, motion: MotionMap | None, *, title: str, branch: str = "cond") -> None:
    """Draw what was computed, partly computed and reused, a row for each chunk and a column for each denoise step.

    Args:
        motion: drawn below: motion weights and reused tokens on a frame.
        branch: the CFG branch whose decisions are drawn.
    """
    figure = new_figure(figsize=(11, 3.4 if motion is None else 6.4))
    if motion is None:
        _draw_map(figure.subplots(), trace, branch, title)
    else:
        top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
        _draw_map(top.subplots(), trace, branch, title)
        _draw_motion(bottom.subplots(1, 3), motion)
    figure.savefig(path, dpi=110)


def draw_comparison(path: Path, traces: Mapping[str, Trace], *, branch: str = "cond") -> None:
    """Draw what several caches computed of videos of one size, below each other on the same axes.

    Args:
        traces: by the title of their maps.
    """
    figure = new_figure(figsize=(11, 2.3 * len(traces) + 0.8))
    panels = figure.subplots(len(traces), 1, sharex=True, squeeze=False)[:, 0]
    legend: dict[str, Artist] = {}
    for axes, (title, trace) in zip(panels, traces.items(), strict=True):
        entries = _draw_shares(axes, trace, branch)
        legend |= {str(entry.get_label()): entry for entry in entries}
        axes.set_title(title, loc="left", fontsize=11)
    panels[-1].set_xlabel("denoise step of the chunk")
    figure.legend(handles=list(legend.values()), ncols=len(legend), loc="outside lower center", frameon=False)
    figure.savefig(path, dpi=110)


def draw_strip(path: Path, videos: Mapping[str, NDArray[np.uint8]], wanted: int = 6) -> None:
    """Draw frames at a few times, a row for each video.

    Args:
        videos: uint8 `[frames, height, width, 3]` of one size, by their names.
        wanted: frames of a row, the first and the last among them.
    """
    count, height, width, _ = next(iter(videos.values())).shape
    times = np.linspace(0, count - 1, wanted).round().astype(int)
    panel = 1.75  # inches
    figure = new_figure(figsize=(panel * wanted + 1.6, (panel * height / width + 0.12) * len(videos) + 0.25))
    panels = figure.subplots(len(videos), wanted, squeeze=False)
    for row, (name, frames) in zip(panels, videos.items(), strict=True):
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        for axes, time in zip(row, times, strict=True):
            axes.imshow(frames[time], interpolation="bicubic")
            axes.set(xticks=[], yticks=[])
    for axes, time in zip(panels[0], times, strict=True):
        axes.set_title(f"frame {time}", fontsize=9)
    figure.savefig(path, dpi=110)


def _draw_map(axes: "Axes", trace: Trace, branch: str, title: str) -> None:
    legend = _draw_shares(axes, trace, branch)
    axes.set(xlabel="denoise step of the chunk", title=title)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "frameon": False}
    axes.legend(handles=legend, ncols=len(legend), fontsize=8, **below)


def _draw_shares(axes: "Axes", trace: Trace, branch: str) -> "list[Artist]":
    """Draw the map itself, and return what its legend says."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    records = [record for record in trace.denoise_records() if record.branch == branch]
    rows = sorted({(record.window, record.chunk) for record in records})
    share = _computed_shares(records, rows)
    kinds = np.where(share == 1, 0, np.where(share == 0, 2, 1))
    axes.imshow(kinds, cmap=ListedColormap([COMPUTED, PARTIAL, REUSED]), vmin=0, vmax=2, aspect="auto")
    for row, step in zip(*np.nonzero(kinds == 1), strict=True):
        axes.text(step, row, f"{share[row, step]:.0%}"[:-1], ha="center", va="center", fontsize=6)
    legend: list[Artist] = [Patch(color=COMPUTED, label="computed"), Patch(color=REUSED, label="reused or forecast")]
    if (kinds == 1).any():
        legend.insert(1, Patch(color=PARTIAL, label="partly computed (%)"))
    legend += _mark_token_phase(axes, records, rows)
    several = len(trace.windows) > 1
    axes.set_yticks(range(len(rows)), [f"window {w}, chunk {c}" if several else f"chunk {c}" for w, c in rows])
    _draw_cells(axes, *share.shape)
    return legend


def _draw_cells(axes: "Axes", rows: int, steps: int) -> None:
    axes.set_xticks(np.arange(0, steps, 5))
    axes.set_xticks(np.arange(-0.5, steps), minor=True)
    axes.set_yticks(np.arange(-0.5, rows), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def _computed_shares(records: Sequence[Record], rows: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Share of the tokens that were computed, `[rows, steps]`; NaN for steps that were not taken."""
    share = np.full((len(rows), max(record.step for record in records) + 1), np.nan)
    for record in records:
        share[rows.index((record.window, record.chunk)), record.step] = record.computed / record.tokens
    return share


def _mark_token_phase(axes: "Axes", records: Sequence[Record], rows: Sequence[tuple[int, int]]) -> "list[Artist]":
    """Draw a line where the token phase of each row begins, and return what the legend says of it."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    begins: dict[int, int] = {}
    for record in records:
        if record.phase is Phase.token:
            row = rows.index((record.window, record.chunk))
            begins[row] = min(record.step, begins.get(row, record.step))
    for row, begin in begins.items():
        axes.plot([begin - 0.5] * 2, [row - 0.5, row + 0.5], color="black", linewidth=1.6)
    if begins:
        return [Line2D([], [], color="black", label="token phase begins")]
    if any(record.phase is Phase.chunk for record in records):
        return [Patch(alpha=0, label="the token phase was not reached")]
    return []


def _draw_motion(axes: "Sequence[Axes]", motion: MotionMap) -> None:
    height, width, _ = motion.frame.shape
    extent = (0, width, height, 0)
    axes[0].imshow(motion.frame)
    axes[0].set_title(motion.title, fontsize=9)
    axes[1].imshow(motion.frame.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    weights = axes[1].imshow(motion.weight, extent=extent, cmap="viridis", alpha=0.65, vmin=motion.weight.min(), vmax=1)
    axes[1].set_title("motion weight", fontsize=9)
    axes[1].figure.colorbar(weights, ax=axes[1], shrink=0.8)
    axes[2].imshow(motion.frame)
    veil = np.zeros((*motion.reused.shape, 4), np.float32)
    veil[motion.reused] = (0.85, 0.88, 0.92, 0.85)
    axes[2].imshow(veil, extent=extent, interpolation="nearest")
    axes[2].set_title(f"reused tokens veiled ({motion.reused.mean():.0%})", fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
