"""The tables of a benchmark."""

import statistics
from collections.abc import Iterator, Sequence

from motioncache_eval.bench.cell import last_line
from motioncache_eval.bench.config import REFERENCE, BenchConfig, budget_name, meets_budget
from motioncache_eval.bench.rows import Cell, Row, find_row
from motioncache_eval.intervals import bootstrap_interval
from motioncache_eval.table import Table

COST = ("prompts", "TFLOPs", "fewer FLOPs", "computed", "seconds", "speed-up", "model alone", "end to end",
        "first chunk", "peak GB")  # fmt: skip

FIDELITY = {
    "psnr_db": ("PSNR dB", 1),
    "psnr_moving_db": ("moving", 1),
    "psnr_still_db": ("still", 1),
    "ssim": ("SSIM", 3),
    "flip": ("FLIP", 3),
    "lpips": ("LPIPS", 3),
}
"""Figures that have an interval: the name of the column, and its digits."""


def cost_table(rows: list[Row]) -> Table:
    """What every method costs."""
    return Table(title="Cost", header=("", *COST), rows=[_cost(row, find_row(rows, REFERENCE)) for row in rows])


def fidelity_tables(rows: list[Row]) -> list[Table]:
    """How near every method comes to the reference, the best first.

    There is one table for each number of prompts, as their means differ.
    """
    header = ("", *(name for name, _ in FIDELITY.values()), "PSNR, mean of frames", "last chunk", "latent MSE")
    return [
        Table(
            title=f"Fidelity over {count} prompt{'s' if count != 1 else ''}",
            header=header,
            rows=[_fidelity(row) for row in best_first(rows) if len(row.cells) == count],
        )
        for count in sorted({len(row.cells) for row in rows} - {0}, reverse=True)
    ]


def best_first(rows: list[Row]) -> list[Row]:
    """The reference, then the other methods by their PSNR; those without a result come last."""
    return sorted(rows, key=lambda row: (row.name != REFERENCE, bool(row.errors), -(row.mean("psnr_db") or 0.0)))


def budget_table(rows: list[Row], config: BenchConfig) -> Table | None:
    """Methods at equal cost: at every budget PSNR and the share that was reached, the best first; None without budgets.

    The table says where a method does not meet a budget, and what it costs where it was measured nevertheless.
    """
    base = find_row(rows, config.budget_of)
    base_flops = None if base is None else base.mean("flops")
    if not config.budgets or base_flops is None:
        return None
    by_name = {row.name: row for row in rows}
    tuned = [
        row.family for share in config.budgets for row in best_first(rows) if row.name.endswith(budget_name("", share))
    ]
    header = ["", *(f"{share:g} of {config.budget_of}" for share in config.budgets)]
    body = [
        [name, *(_at_budget(by_name.get(budget_name(name, share)), share, base_flops) for share in config.budgets)]
        for name in dict.fromkeys(tuned)
    ]
    return Table(title="At equal cost: PSNR dB (share of FLOPs)", header=header, rows=body)


def _at_budget(row: Row | None, share: float, base_flops: float) -> str:
    if row is None:
        return "not reached"
    flops = row.mean("flops")
    if flops is None:
        return "n/a"
    reached = flops / base_flops
    if not meets_budget(flops, share * base_flops):
        return f"not reached ({reached:.2f})"
    return f"{interval(row.values('psnr_db'), 1)} ({reached:.2f})"


def interval(values: Sequence[float], digits: int) -> str:
    """Mean and its 95 % interval over the prompts."""
    if not values:
        return "n/a"
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    low, high = bootstrap_interval(values)
    return f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def _cost(row: Row, vanilla: Row | None) -> list[str]:
    flops, vanilla_flops = row.mean("flops"), None if vanilla is None else vanilla.mean("flops")
    share, peak = row.mean("computed_share"), row.mean("peak_bytes")
    whole = [cell["median_seconds"] + cell["decode_seconds"] for cell in row.cells]
    return [
        row.name,
        str(len(row.cells)),
        "n/a" if flops is None else f"{flops / 1e12:.3f}",
        "n/a" if flops is None or vanilla_flops is None else f"{vanilla_flops / flops:.2f}x",
        "n/a" if share is None else f"{share:.1%}",
        _seconds(row.values("median_seconds")),
        _speedup(row, vanilla),
        _seconds(row.values("median_model_seconds")),
        _seconds(whole),
        _seconds(row.values("median_first_chunk_seconds")),
        "n/a" if peak is None else f"{peak / 1e9:.2f}",
    ]


def _seconds(values: Sequence[float]) -> str:
    """The median over the prompts."""
    return f"{statistics.median(values):.2f}" if values else "n/a"


def _speedup(row: Row, vanilla: Row | None) -> str:
    """The median over prompts of the ratio to the reference's time for the same prompt."""
    times = {cell["prompt"]: cell["median_seconds"] for cell in vanilla.cells} if vanilla else {}
    ratios = [times[cell["prompt"]] / cell["median_seconds"] for cell in row.cells if cell["prompt"] in times]
    return f"{statistics.median(ratios):.2f}x" if ratios else "n/a"


def _fidelity(row: Row) -> list[str]:
    last = [cell["psnr_of_chunks_db"][-1] for cell in row.cells]
    frames, latents = row.mean("psnr_of_frames_db"), row.mean("latent_mse")
    return [
        row.name,
        *(interval(row.values(key), digits) for key, (_, digits) in FIDELITY.items()),
        "n/a" if frames is None else f"{frames:.1f}",
        f"{statistics.mean(last):.1f}" if last else "n/a",
        "n/a" if latents is None else f"{latents:.2g}",
    ]


def errors(rows: Sequence[Row]) -> Iterator[str]:
    """What went wrong, a line for each method and reason."""
    for row in rows:
        reasons: dict[str, list[str]] = {}
        for prompt, error in row.errors.items():
            reasons.setdefault(last_line(error), []).append(prompt)
        for reason, prompts in reasons.items():
            yield f"`{row.name}`, prompt {', '.join(prompts)}: {reason}"


def comparisons(rows: Sequence[Row], pairs: Sequence[Sequence[str]]) -> Iterator[str]:
    """How far the second method of each pair is ahead of the first, over the prompts that both have."""
    by_name = {row.name: {cell["prompt"]: cell for cell in row.cells} for row in rows}
    for first, second in pairs:
        a, b = by_name.get(first, {}), by_name.get(second, {})
        shared = [prompt for prompt in a if prompt in b]
        if len(shared) < 2:
            yield f"{second} against {first}: not enough prompts."
            continue
        pairs_of_cells = [(a[prompt], b[prompt]) for prompt in shared]
        gains = {name: _differences(pairs_of_cells, key) for key, name in GAINS.items()}
        text = ", ".join(f"{name}{_gain(values)}" for name, values in gains.items() if len(values) > 1)
        costs = (statistics.mean(cells[prompt]["flops"] for prompt in shared) / 1e12 for cells in (b, a))
        yield f"{second} against {first}: {text}; {' and '.join(f'{cost:.3f}' for cost in costs)} TFLOPs."


GAINS = {"psnr_db": "", "psnr_moving_db": "moving "}
"""The figures that `comparisons` compares, and the words in front of them."""


def _differences(pairs: Sequence[tuple[Cell, Cell]], key: str) -> list[float]:
    """The second value minus the first, of the pairs that have both."""
    return [b[key] - a[key] for a, b in pairs if None not in (a.get(key), b.get(key))]


def _gain(values: Sequence[float]) -> str:
    low, high = bootstrap_interval(values)
    return f"{statistics.mean(values):+.2f} dB [{low:+.2f}, {high:+.2f}]"
