"""Write the tables of memory into docs/memory.md and README.md: `python docs/write_memory.py`.

The figures are in docs/memory.json, which `python docs/write_memory.py --measure` measures again, all or those of the
models that are named, as `motioncache memory` does; it takes some minutes and no GPU.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from motioncache_eval.cli.memory import fitting_flags
from motioncache_eval.jobs import JobModel, installed_models
from motioncache_eval.measured_memory import KV, OUTPUTS, TEXT_KV, MeasuredMemory, MemorySettings, flags_of
from motioncache_eval.memory import GIB

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "memory.json"
CARDS = (24, 32, 48, 80, 141)

COLUMNS = {
    "SkyReels-V2 1.3B": "1.3B-540P",
    "SkyReels-V2 14B": "14B-540P",
    "MAGI-1 4.5B distilled": "4.5B_distill",
    "MAGI-1 24B distilled": "24B_distill",
}
"""The columns of the README's table."""

Figures = dict[str, list[MeasuredMemory]]
"""By the name of a released model: from the longest window or video to the shortest, the longest in several ways."""


SEVERAL = (*COLUMNS.values(), "4.5B_base")
"""The models whose longest window or video is measured in several ways."""


def measure(names: Sequence[str]) -> Figures:
    """Released models at every length; all without a name."""
    return {
        name: list(_lengths(model, name))
        for model in installed_models().values()
        for name in model.released().names
        if not names or name in names
    }


def _lengths(model: JobModel, name: str) -> Iterator[MeasuredMemory]:
    released = model.released()
    for length in released.lengths:
        several = length == released.lengths[0] and name in SEVERAL
        ways = (*released.ways, *released.presets) if several else ({},)
        for way in ways:
            settings = replace(MemorySettings(**way), **{released.frames_key: length})
            yield replace(model.measure_memory(name, settings), flags=flags_of(way))


def read() -> Figures:
    """The committed figures."""
    stored = json.loads(FIGURES.read_text())
    return {name: [MeasuredMemory.from_dict(one) for one in rows] for name, rows in stored.items()}


def full_table(figures: Figures) -> str:
    """Parts and peaks of all sizes, in GiB."""
    cards = " | ".join(f"{card} GB" for card in CARDS)
    lines = [
        f"| | weights | K/V | text K/V | kept outputs | activations | decoding | peak | with `cpu_offload` | {cards} |",
        "|---|" + "--:|" * 8 + "---|" * len(CARDS),
    ]
    plain = [one for rows in figures.values() for one in rows if not one.flags]
    return "\n".join([*lines, *(_full_row(one) for one in plain)])


def ways_table(figures: Figures) -> str:
    """What the largest windows come to with other settings, in GiB."""
    lines = ["| | | weights | K/V | activations | sampling | peak |", "|---|---|" + "--:|" * 5]
    models = [rows for rows in figures.values() if any(one.flags for one in rows)]
    return "\n".join([*lines, *(_way_row(one) for rows in models for one in rows if one.frames == rows[0].frames)])


def _way_row(one: MeasuredMemory) -> str:
    (stage,) = (stage for stage in one.stages if stage.name == "sampling")
    kept = stage.parts.get(KV, 0)
    whole, peak = one.stage_total(stage, offload=True), one.peak(offload=True)
    sizes = [one.weights["transformer"], kept, stage.bytes - kept, whole, peak]
    flags = f"`{' '.join(one.flags)}`" if one.flags else ""
    return f"| {' | '.join([one.name, flags, *(f'{size / GIB:.1f}' for size in sizes)])} |"


def _full_row(one: MeasuredMemory) -> str:
    stages = {stage.name: stage for stage in one.stages}
    parts = stages["sampling"].parts
    kept = [parts.get(name, 0) for name in (KV, TEXT_KV, OUTPUTS)]
    sizes = [one.weights["transformer"], *kept, stages["sampling"].bytes - sum(kept), stages["decoding"].bytes]
    cells = [f"{size / GIB:.1f}" for size in (*sizes, one.peak(offload=False), one.peak(offload=True))]
    return f"| {' | '.join([one.name, *cells, *(_fits(one, card) for card in CARDS)])} |"


def _fits(one: MeasuredMemory, card: int) -> str:
    flags = fitting_flags(one, card)
    return "-" if flags is None else ("offload" if flags else "yes")


def short_table(figures: Figures) -> str:
    """The longest window or video that fits on each card, and the flag it needs."""
    lines = [f"| GPU | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *(_short_row(figures, card) for card in CARDS)])


def _short_row(figures: Figures, card: int) -> str:
    cells = [_longest(figures[name], card) for name in COLUMNS.values()]
    return f"| {card} GB | {' | '.join(cells)} |"


def _longest(rows: list[MeasuredMemory], card: int) -> str:
    for one in rows:
        on_one = not any(flag.startswith(("preset", "gpus")) for flag in one.flags)
        flags = fitting_flags(one, card) if on_one else None
        if flags is not None:
            return f"{one.frames} frames" + (f", `{flags}`" if flags else "")
    return "-"


def pages(figures: Figures) -> dict[Path, str]:
    """The pages with their tables."""
    memory, readme = ROOT / "docs" / "memory.md", ROOT / "README.md"
    page = _with_table(memory.read_text(), full_table(figures))
    return {
        memory: _with_table(page, ways_table(figures), "ways"),
        readme: _with_table(readme.read_text(), short_table(figures)),
    }


def _with_table(page: str, table: str, name: str = "memory") -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs="*", metavar="NAME", help="measure again: all, or these models")
    names: list[str] | None = parser.parse_args().measure
    if names is not None:
        measured = (read() if names else {}) | measure(names)
        figures = {name: [asdict(one) for one in rows] for name, rows in measured.items()}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    for path, page in pages(read()).items():
        path.write_text(page)


if __name__ == "__main__":
    main()
