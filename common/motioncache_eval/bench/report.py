"""Table, plot and page of a benchmark, from its JSONs alone."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from motioncache_eval.bench.config import REFERENCE, Benchmark
from motioncache_eval.bench.run import read_cell, view_path
from motioncache_eval.intervals import bootstrap_interval
from motioncache_eval.page.build import Page, write_page

Cell = Mapping[str, Any]

IDENTICAL = 120.0
"""PSNR (dB) of identical videos."""

COLUMNS = ("prompts", "TFLOPs", "fewer FLOPs", "computed", "seconds", "speed-up", "PSNR dB", "moving", "still",
           "last chunk", "SSIM")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All cells of a method.

    Attributes:
        folder: name of the folder of its cells.
        cells: those with a result.
        errors: what the others say, by the name of the prompt's file.
    """

    name: str
    folder: str
    cells: tuple[Cell, ...]
    errors: Mapping[str, str]

    def mean(self, key: str) -> float | None:
        """Mean over the prompts that have a value."""
        values = self.values(key)
        return statistics.mean(values) if values else None

    def values(self, key: str) -> list[float]:
        return [cell[key] for cell in self.cells if cell.get(key) is not None]


def read_rows(output: Path) -> list[Row]:
    """All methods that have cells, the reference first, the others by what they cost."""
    rows = [_row(folder) for folder in sorted((output / "cells").glob("*")) if folder.is_dir()]
    return sorted(rows, key=lambda row: (row.name != REFERENCE, -(row.mean("flops") or 0.0), row.name))


def _row(folder: Path) -> Row:
    cells = {path.stem: read_cell(path) for path in sorted(folder.glob("*.json"))}
    name = next((cell["method"] for cell in cells.values() if "method" in cell), folder.name)
    return Row(
        name=name,
        folder=folder.name,
        cells=tuple(cell for cell in cells.values() if "error" not in cell),
        errors={stem: cell["error"] for stem, cell in cells.items() if "error" in cell},
    )


def figures(rows: Sequence[Row]) -> list[list[str]]:
    """The name and the `COLUMNS` of every method."""
    vanilla = next((row for row in rows if row.name == REFERENCE), None)
    cost = _reference_flops(rows, vanilla)
    return [_figures(row, vanilla, cost) for row in rows]


def table(rows: Sequence[Row]) -> list[str]:
    """Markdown lines: cost, time and fidelity of every method, then what went wrong."""
    return [
        f"| | {' | '.join(COLUMNS)} |",
        f"|---|{'--:|' * len(COLUMNS)}",
        *(f"| {' | '.join(cells)} |" for cells in figures(rows)),
        *_errors(rows),
    ]


def _reference_flops(rows: Sequence[Row], vanilla: Row | None) -> float | None:
    """What the reference costs, as counted by methods that change nothing of its job."""
    jobs = [cell["job"] for cell in vanilla.cells] if vanilla else []
    counted = [cell["vanilla_flops"] for row in rows for cell in row.cells if cell["job"] in jobs]
    known = [flops for flops in counted if flops is not None]
    return statistics.mean(known) if known else None


def _figures(row: Row, vanilla: Row | None, vanilla_flops: float | None) -> list[str]:
    flops = vanilla_flops if row.name == REFERENCE else row.mean("flops")
    seconds = row.mean("median_seconds")
    return [
        row.name,
        str(len(row.cells)),
        "n/a" if flops is None else f"{flops / 1e12:.3f}",
        "n/a" if flops is None or vanilla_flops is None else f"{vanilla_flops / flops:.2f}x",
        _share(row.mean("computed_share")),
        "n/a" if seconds is None else f"{seconds:.2f}",
        _speedup(row, vanilla),
        *(_fidelity(row, key) for key in ("psnr_db", "psnr_moving_db", "psnr_still_db")),
        _last_chunk(row),
        _fidelity(row, "ssim", digits=3),
    ]


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _speedup(row: Row, vanilla: Row | None) -> str:
    """Median over prompts of the ratio to the reference's time for the same prompt."""
    times = {cell["prompt"]: cell["median_seconds"] for cell in vanilla.cells} if vanilla else {}
    ratios = [times[cell["prompt"]] / cell["median_seconds"] for cell in row.cells if cell["prompt"] in times]
    return f"{statistics.median(ratios):.2f}x" if ratios else "n/a"


def _fidelity(row: Row, key: str, digits: int = 1) -> str:
    """Mean and its 95 % interval."""
    values = row.values(key)
    if not values:
        return "n/a"
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    low, high = bootstrap_interval(values)
    return f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def _last_chunk(row: Row) -> str:
    values = [cell["psnr_of_chunks_db"][-1] for cell in row.cells]
    return f"{statistics.mean(values):.1f}" if values else "n/a"


def _errors(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for prompt, error in row.errors.items():
            yield f"\n`{row.name}`, prompt {prompt}: {error.splitlines()[-1] if error else 'no reason given'}"


def comparisons(rows: Sequence[Row], pairs: Sequence[Sequence[str]]) -> Iterator[str]:
    """By how much the second method of each pair is ahead of the first, over the prompts that both have."""
    by_name = {row.name: {cell["prompt"]: cell for cell in row.cells} for row in rows}
    for first, second in pairs:
        a, b = by_name.get(first, {}), by_name.get(second, {})
        gains = [b[prompt]["psnr_db"] - a[prompt]["psnr_db"] for prompt in a if prompt in b]
        if len(gains) < 2:
            yield f"{second} against {first}: not enough prompts."
            continue
        low, high = bootstrap_interval(gains)
        shares = (statistics.mean(cells[prompt]["computed_share"] for prompt in a if prompt in b) for cells in (b, a))
        gain = f"{statistics.mean(gains):+.2f} dB [{low:+.2f}, {high:+.2f}]"
        yield f"{second} against {first}: {gain}; computed {' and '.join(f'{share:.1%}' for share in shares)}."


def curve(rows: Sequence[Row], families: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Points of quality over cost.

    Args:
        families: of methods by name; without one, those whose names start with the same word are a family.
    """
    points = []
    for row in rows:
        flops, values = row.mean("flops"), row.values("psnr_db")
        if flops is None or len(values) < 2 or statistics.mean(values) >= IDENTICAL:
            continue
        low, high = bootstrap_interval(values)
        family = families.get(row.name) or row.name.split()[0]
        quality = statistics.mean(values)
        points.append(
            {"name": row.name, "family": family, "cost": flops / 1e12, "quality": quality, "low": low, "high": high}
        )
    return points


def draw_curve(path: Path, points: Sequence[Mapping[str, Any]]) -> None:
    """PSNR over counted FLOPs, families joined."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for family in dict.fromkeys(point["family"] for point in points):
        own = sorted((point for point in points if point["family"] == family), key=lambda point: point["cost"])
        below = [point["quality"] - point["low"] for point in own]
        above = [point["high"] - point["quality"] for point in own]
        costs, qualities = [point["cost"] for point in own], [point["quality"] for point in own]
        axes.errorbar(
            costs, qualities, yerr=[below, above], marker="o", markersize=4, linewidth=1.2, capsize=2, label=family
        )
    axes.set_xlabel("TFLOPs per video, counted")
    axes.set_ylabel("PSNR against the uncached video, dB")
    axes.grid(alpha=0.3)
    if points:
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def shown_videos(output: Path, rows: Sequence[Row], prompts: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What the page shows, by prompt and method; a video that is missing or broken says so."""
    return {
        prompt: {row.name: _shown(output, row, prompt, index) for row in rows} for index, prompt in enumerate(prompts)
    }


def _shown(output: Path, row: Row, prompt: str, index: int) -> dict[str, Any]:
    if f"{index:03d}" in row.errors:
        return {"error": row.errors[f"{index:03d}"]}
    view = read_cell(view_path(output, row.folder, index))
    if "sprite" not in view:
        return {"error": f"the video is missing: {view.get('error', 'it holds no frames')}"}
    cell = next((cell for cell in row.cells if cell["prompt"] == prompt), None)
    caption = "" if cell is None else f"{cell['psnr_db']:.1f} dB, {cell['computed_share']:.0%} computed"
    return {**view, "caption": caption}


def write_report(output: Path, benchmark: Benchmark) -> list[str]:
    """`table.md`, `curve.png` and `report.html` beside the cells; returns the table's lines."""
    config, rows = benchmark.config, read_rows(output)
    lead = f"{len(benchmark.prompts)} prompts, times are medians of {config.repeats}, means with 95 % intervals."
    lines = [f"{config.model}: {lead}", "", *table(rows), "", *comparisons(rows, config.compare)]
    (output / "table.md").write_text("\n".join(lines) + "\n")
    points = curve(rows, {name: method.family for name, method in benchmark.methods.items()})
    draw_curve(output / "curve.png", points)
    page = Page(
        heading=f"Cache methods on {config.model}",
        lead=lead,
        header=["", *COLUMNS],
        rows=figures(rows),
        points=points,
        videos=shown_videos(output, rows, benchmark.prompts[: config.shown]),
    )
    write_page(output / "report.html", page)
    return lines
