"""Makes the tables, pictures and page of a benchmark from its JSONs."""

from pathlib import Path
from typing import Any

from motioncache_eval.bench.benchmark import Benchmark
from motioncache_eval.bench.config import REFERENCE, budget_name
from motioncache_eval.bench.curve import curve, draw_curve, draw_drift
from motioncache_eval.bench.results import read_json, view_path
from motioncache_eval.bench.rows import Row
from motioncache_eval.bench.tables import best_first, budget_table, comparisons, cost_table, errors, fidelity_tables
from motioncache_eval.looks import family_looks
from motioncache_eval.metrics import IDENTICAL
from motioncache_eval.page.build import Page, write_page


def write_report(output: Path, benchmark: Benchmark, rows: list[Row]) -> list[str]:
    """`table.md`, `curve.png`, `chunks.png` and `report.html` beside the cells; returns the lines of the tables."""
    config = benchmark.config
    lead = (
        f"{len(benchmark.prompts)} prompts or fewer, each timed {config.repeats} x: means with 95 % intervals, medians "
        "of times, and for speed-ups of the ratios to the uncached video of the same prompt."
    )
    budgets = budget_table(rows, config)
    tables = [*([budgets] if budgets else []), *fidelity_tables(rows), cost_table(rows)]
    lines = [f"{config.model}: {lead}"]
    for table in tables:
        lines += ["", f"{table.title}:", "", *table.markdown()]
    findings, failures = [*comparisons(rows, config.compare)], [*errors(rows)]
    for line in (*findings, *failures):
        lines += ["", line]
    (output / "table.md").write_text("\n".join(lines) + "\n")
    points = curve(rows)
    draw_curve(output / "curve.png", points)
    chosen = _chosen(benchmark, rows)
    draw_drift(output / "chunks.png", [row for row in rows if row.name in chosen])
    videos = {
        prompt: {row.name: _shown(output, row, prompt, index) for row in best_first(rows)}
        for index, prompt in enumerate(benchmark.prompts[: config.shown])
    }
    looks = family_looks(row.family for row in rows)
    page = Page(
        heading=f"Cache methods on {config.model}",
        lead=lead,
        tables=tables,
        points=points,
        videos=videos,
        chosen=chosen,
        findings=findings,
        failures=[line.replace("`", "") for line in failures],
        accent=[name for row in rows if looks[row.family].accent for name in (row.name, row.family)],
    )
    write_page(output / "report.html", page)
    return lines


def _chosen(benchmark: Benchmark, rows: list[Row]) -> list[str]:
    """The methods that the page shows first: with budgets, the reference and those at the first budget; else all."""
    budgets, names = benchmark.config.budgets, [row.name for row in rows]
    if not budgets:
        return names
    wanted = [REFERENCE, *(budget_name(name, budgets[0]) for name in benchmark.methods)]
    return [name for name in names if name in wanted]


def _shown(output: Path, row: Row, prompt: str, index: int) -> dict[str, Any]:
    """What the page shows of a video: an error where it is missing or broken."""
    if f"{index:03d}" in row.errors:
        return {"error": row.errors[f"{index:03d}"]}
    view = read_json(view_path(output, row.folder, index))
    if "sprite" not in view:
        return {"error": f"the video is missing: {view.get('error', 'it holds no frames')}"}
    cell = next((cell for cell in row.cells if cell["prompt"] == prompt), None)
    return {**view, "caption": "" if cell is None else _caption(cell)}


def _caption(cell: Any) -> str:
    if cell["psnr_db"] >= IDENTICAL:
        return "the reference" if cell["method"] == REFERENCE else "identical"
    share = "" if cell["computed_share"] is None else f", {cell['computed_share']:.0%} computed"
    return f"{cell['psnr_db']:.1f} dB{share}"
