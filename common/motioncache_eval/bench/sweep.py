"""The table and the picture of a sweep: every method at every value of the setting."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from motioncache_eval.bench.benchmark import Sweep
from motioncache_eval.bench.curve import IDENTICAL
from motioncache_eval.bench.rows import Row, find_row, read_rows
from motioncache_eval.bench.tables import interval
from motioncache_eval.figures import new_figure
from motioncache_eval.intervals import bootstrap_interval
from motioncache_eval.table import Table


def write_sweep(sweep: Sweep) -> list[str]:
    """`sweep.md` and `sweep.png` beside the folders of the values; returns the lines of the table."""
    rows = {label: read_rows(Path(benchmark.config.output)) for label, benchmark in sweep.benchmarks.items()}
    table = sweep_table(sweep.key, rows)
    lines = [f"{table.title}:", "", *table.markdown()]
    (sweep.output / "sweep.md").write_text("\n".join(lines) + "\n")
    draw_sweep(sweep.output / "sweep.png", sweep.key, rows)
    return lines


def sweep_table(key: str, rows: Mapping[str, list[Row]]) -> Table:
    """PSNR and the factor of FLOPs saved, a row for each method, a column for each value."""
    return Table(
        title=f"PSNR dB (times fewer FLOPs), by {key}",
        header=("", *rows),
        rows=[[name, *(_cell(of_value, name) for of_value in rows.values())] for name in _names(rows)],
    )


def draw_sweep(path: Path, key: str, rows: Mapping[str, list[Row]]) -> None:
    """PSNR with its 95 % interval over the values of the setting, a line for each method that changes the video."""
    figure = new_figure(figsize=(6.5, 4.2))
    axes = figure.subplots()
    for name in _names(rows):
        points = [(label, values) for label in rows if (values := _values(rows[label], name))]
        if len(points) < 2 or all(min(values) >= IDENTICAL for _, values in points):
            continue
        labels = [label for label, _ in points]
        means, below, above = zip(*(_spread(values) for _, values in points), strict=True)
        axes.errorbar(labels, means, yerr=[below, above], marker="o", markersize=4, capsize=2, label=name)
    axes.set_xlabel(key)
    axes.set_ylabel("PSNR against the uncached video, dB")
    axes.grid(alpha=0.3)
    if axes.containers:
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and how far its interval reaches below and above it."""
    mean = statistics.mean(values)
    low, high = bootstrap_interval(values) if len(values) > 1 else (mean, mean)
    return mean, mean - low, high - mean


def _names(rows: Mapping[str, list[Row]]) -> list[str]:
    return list(dict.fromkeys(row.name for of_value in rows.values() for row in of_value))


def _values(rows: list[Row], name: str) -> Sequence[float]:
    row = find_row(rows, name)
    return [] if row is None else row.values("psnr_db")


def _cell(rows: list[Row], name: str) -> str:
    row, vanilla = find_row(rows, name), rows[0]
    flops, all_flops = None if row is None else row.mean("flops"), vanilla.mean("flops")
    if row is None or flops is None or all_flops is None:
        return "n/a"
    return f"{interval(row.values('psnr_db'), 1)} ({all_flops / flops:.2f}x)"
