"""The demo's page: one prompt without a cache and with the chosen preset, side by side, and other presets below."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from motioncache_eval.metrics import IDENTICAL
from motioncache_eval.page.build import draw_list, draw_table, read_part, section, write_document
from motioncache_eval.page.view import make_overlay, make_view
from motioncache_eval.sampling import Sample
from motioncache_eval.table import Table
from motioncache_eval.video import to_uint8

VANILLA = "vanilla"
FORECAST = "forecast"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPage:
    """What the page shows.

    Attributes:
        prompt: what the video shows.
        lead: a sentence on the size of the video, below the result.
        chosen: the preset that is compared with vanilla; it is one of `results`.
        results: by preset its `seconds`, `speedup`, `psnr_db` and `flops`; vanilla is one of them.
        views: what is shown of each preset, see `make_views`.
        table: the figures, a row for each preset.
        notes: sentences below the table.
        policy: the settings of the chosen preset's policy.
        machine, versions: what the demo ran on and with.
        command: runs the same demo again in a shell.
    """

    prompt: str
    lead: str
    chosen: str
    results: Mapping[str, Mapping[str, float]]
    views: Mapping[str, Mapping[str, Any]]
    table: Table
    notes: Sequence[str]
    policy: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, Any]
    command: str


def make_views(
    samples: Mapping[str, Sample],
    videos: Mapping[str, torch.Tensor],
    results: Mapping[str, Mapping[str, float]],
    weights: Mapping[int, torch.Tensor],
    fps: int,
    chosen: str,
) -> dict[str, dict[str, Any]]:
    """What the page shows of every preset.

    Args:
        weights: motion weights by chunk, which the chosen preset had.
    """
    vanilla = to_uint8(videos[VANILLA])
    views: dict[str, dict[str, Any]] = {}
    for preset, sample in samples.items():
        overlay = None if sample.trace is None else make_overlay(sample.trace, weights if preset == chosen else {})
        frames, reference = (vanilla, None) if preset == VANILLA else (to_uint8(videos[preset]), vanilla)
        view = make_view(frames, fps=fps, trace=sample.trace, overlay=overlay, reference=reference)
        name, _, figures = describe(preset, results[preset]).partition("\n")
        views[preset] = {**view, "title": name, "caption": figures}
    return views


def write_demo_page(path: Path, page: DemoPage) -> None:
    """Write the page as one file."""
    others = [preset for preset in page.views if preset not in (VANILLA, page.chosen)]
    lead = f'<p>{html.escape(_at_equal_cost(page))}</p><p class="prompt">“{html.escape(page.prompt)}”</p>'
    main = [
        '<div class="players large" id="players"></div>',
        read_part("controls.html"),
        read_part("legend.html"),
        _folded(others) if others else "",
        section("Figures", draw_table(page.table, accent=[page.chosen]) + draw_list(page.notes)),
        section("How it was made", _making(page)),
    ]
    data = {"videos": {page.prompt: page.views}, "chosen": [VANILLA, page.chosen], "autoplay": True}
    heading = headline(page.results[page.chosen], page.results[VANILLA])
    write_document(path, heading=heading, lead=lead, main="\n".join(main), data=data)


def headline(result: Mapping[str, float], vanilla: Mapping[str, float]) -> str:
    """The result in one line, such as "2.3 times faster, 60.6 dB from the uncached video, 38 s to 17 s"."""
    seconds, before = result["seconds"], vanilla["seconds"]
    digits = 0 if min(seconds, before) >= 10 else 1
    return f"{_speed(result)}, {_quality(result)} the uncached video, {before:.{digits}f} s to {seconds:.{digits}f} s"


def describe(preset: str, result: Mapping[str, float]) -> str:
    """The name of a preset and, on a second line, its figures, for what lies over or beside its video."""
    if preset == VANILLA:
        return f"without a cache\n{result['seconds']:.1f} s"
    quality = "identical" if result["psnr_db"] >= IDENTICAL else f"{result['psnr_db']:.1f} dB"
    return f"{preset}\n{result['seconds']:.1f} s, {_speed(result)}, {quality}"


def _speed(result: Mapping[str, float]) -> str:
    speedup = result["speedup"]
    return f"{speedup:.1f} times faster" if speedup >= 1 else f"{1 / speedup:.1f} times slower"


def _quality(result: Mapping[str, float]) -> str:
    return "identical to" if result["psnr_db"] >= IDENTICAL else f"{result['psnr_db']:.1f} dB from"


def _at_equal_cost(page: DemoPage) -> str:
    """The lead, and what `forecast` makes of the same FLOPs, where it was given as many."""
    chosen, forecast = page.results[page.chosen], page.results.get(FORECAST)
    if forecast is None or page.chosen == FORECAST or abs(forecast["flops"] / chosen["flops"] - 1) > 0.05:
        return page.lead
    better = f"The preset {FORECAST} is {_quality(forecast)} the uncached video at the same FLOPs"
    return f"{page.lead} {better}, and {_speed(forecast)}."


def _folded(presets: list[str]) -> str:
    names = html.escape(", ".join(presets))
    return f'<details><summary>Other presets: {names}</summary><div class="players" id="others"></div></details>'


def _making(page: DemoPage) -> str:
    """Settings, machine and versions, and the command."""
    settings = [[name, _plain(value)] for name, value in page.policy.items()]
    run_on = [[name, _plain(value)] for name, value in {**page.machine, **page.versions}.items()]
    tables = [
        Table(title=f"The policy of the preset {page.chosen}", header=("setting", "value"), rows=settings),
        Table(title="Machine and versions", header=("part", "value"), rows=run_on),
    ]
    command = (
        '<h3 id="again">To run it again</h3><div class="command">'
        f'<pre tabindex="0" aria-labelledby="again"><code id="command">{html.escape(page.command)}</code></pre>'
        '<button id="copy" type="button">Copy</button><span id="copied" role="status"></span></div>'
    )
    drawn = "".join(f"<div>{draw_table(table)}</div>" for table in tables)
    return f'<div class="pair">{drawn}</div>{command}'


def _plain(value: object) -> str:
    """A setting as YAML writes it."""
    value = getattr(value, "value", value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_plain(part) for part in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
