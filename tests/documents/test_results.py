"""The figures of docs/results.md are those of the committed results."""

import re
from pathlib import Path

import pytest

from motioncache_eval.bench.benchmark import Benchmark, load_sweep
from motioncache_eval.bench.rows import read_rows
from motioncache_eval.bench.tables import budget_table, cost_table, fidelity_tables
from motioncache_eval.table import Table

from .blocks import ROOT

PAGE = (ROOT / "docs" / "results.md").read_text()

Figures = dict[str, dict[str, str]]
"""By method and column."""


def read_benchmark(name: str) -> Benchmark:
    (benchmark,) = load_sweep(ROOT / "benchmarks" / f"{name}.yaml").benchmarks.values()
    return benchmark


def figures_of(table: Table) -> Figures:
    return {row[0]: dict(zip(table.header[1:], row[1:], strict=True)) for row in table.rows}


def shown_tables(first_column: str) -> list[Figures]:
    """The tables of the page that have a column of this name at their left, in order."""
    tables: list[Figures] = []
    for part in PAGE.split("\n\n"):
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
        if lines and lines[0][1] == first_column:
            header, _, *rows = lines
            tables.append({row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows})
    return tables


@pytest.mark.parametrize(("index", "name", "rows"), [(0, "skyreels_presets", 7), (1, "magi_presets", 7)])
def test_the_presets_are_as_measured(index: int, name: str, rows: int) -> None:
    measured = read_rows(Path(read_benchmark(name).config.output))
    cost, (fidelity,) = figures_of(cost_table(measured)), map(figures_of, fidelity_tables(measured))
    shown = shown_tables("seconds")[index]
    assert len(shown) == rows
    for method, figures in shown.items():
        expected = cost[method] | fidelity[method]
        filled = {column: figure for column, figure in figures.items() if figure}
        assert filled == {column: expected[column] for column in filled}, method


@pytest.mark.parametrize(("index", "name", "rows"), [(0, "skyreels", 12), (1, "magi", 8)])
def test_methods_at_equal_cost_are_as_measured(index: int, name: str, rows: int) -> None:
    benchmark = read_benchmark(name)
    table = budget_table(read_rows(Path(benchmark.config.output)), benchmark.config)
    assert table is not None
    expected = figures_of(table)
    shown = [table for table in shown_tables("0.5 of exact") if "Forecast" in table][index]
    assert len(shown) == rows
    for method, figures in shown.items():
        for column, figure in expected[method].items():
            assert figures[column] == (figure.partition(" (")[0] if "not" in figure else figure), (method, column)


def test_the_papers_columns_stand_beside_what_was_measured() -> None:
    (table,) = shown_tables("SkyReels-V2, paper")
    for index, column in enumerate(("SkyReels-V2, here", "MAGI-1, here")):
        presets = shown_tables("seconds")[index]
        for preset in ("slow", "fast"):
            assert table[f"seconds, `{preset}`"][column] == presets[preset]["seconds"]
            assert table[f"speed-up, `{preset}`"][column] == presets[preset]["speed-up"]
            assert table[f"PSNR, `{preset}`"][column] == presets[preset]["PSNR dB"].split()[0] + " dB"
        flops = [presets[name]["TFLOPs"] for name in ("vanilla", "slow", "fast")]
        assert table["FLOPs: without, `slow`, `fast`"][column] == f"{', '.join(flops)} T"
        assert table["VBench: without, `slow`, `fast`"][column] == "not measured"


def test_the_figures_of_the_overview_are_those_of_the_page() -> None:
    overview = (ROOT / "README.md").read_text()
    shown = re.findall(
        r"^\| (SkyReels-V2|MAGI-1), `(slow|forecast)`(?:, (\S+ times))?.*\| ([^|]+) \|$", overview, re.MULTILINE
    )
    assert len(shown) >= 4
    for model, preset, target, figures in shown:
        presets = shown_tables("seconds")[model == "MAGI-1"][f"forecast, {target}" if target else preset]
        speedup, psnr = f"{float(presets['speed-up'][:-1]):.1f}x", presets["PSNR dB"].split()[0]
        assert figures == f"{speedup}, {psnr} dB", (model, preset)
