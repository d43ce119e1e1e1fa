"""Draws the curve of quality over cost for a page, as SVG."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from motioncache_eval.looks import Look, family_looks

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 14, 64
"""Room for the labels of the axes, which are larger on a narrow screen."""

SHAPES = {
    "o": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1-1 0Z",
    "s": "M-.9-.9H.9V.9H-.9Z",
    "D": "M0-1.25 1.25 0 0 1.25-1.25 0Z",
    "^": "M0-1.2 1.15.9H-1.15Z",
    "v": "M0 1.2 1.15-.9H-1.15Z",
    "P": "M-.4-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    "X": "M-1.15-.6-.6-1.15 0-.55.6-1.15 1.15-.6.55 0 1.15.6.6 1.15 0 .55-.6 1.15-1.15.6-.55 0Z",
    "*": "M0-1.4.33-.45 1.33-.43.54.17.82 1.13 0 .56-.82 1.13-.54.17-1.33-.43-.33-.45Z",
}
"""Outlines of the markers, by matplotlib's letters."""

Point = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Turns values into pixels.

    Attributes:
        low, high: the values at the ends.
        start, end: the pixels at the ends.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def draw_chart(points: Sequence[Point]) -> str:
    """A picture and its legend as HTML; empty without points.

    Args:
        points: `{"name", "family", "cost", "quality", "low", "high"}`; cost in TFLOPs, the others in dB.
    """
    if not points:
        return ""
    looks = family_looks(point["family"] for point in points)
    x = _axis([point["cost"] for point in points], LEFT, WIDTH - RIGHT)
    y = _axis([point[key] for point in points for key in ("low", "high")], HEIGHT - BOTTOM, TOP)
    families = sorted(looks, key=lambda family: looks[family].accent)  # ours lies on top
    lines = "".join(_family(points, family, looks[family], x, y) for family in families)
    label = "PSNR over counted TFLOPs, a line for each family of methods; the tables hold the figures"
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{_frame(x, y)}{lines}</svg>'
    entries = "".join(_entry(family, look) for family, look in looks.items())
    return f'{svg}<ul class="legend families">{entries}</ul>'


def round_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """About as many round values as wanted, from within the range."""
    rough = (high - low) / wanted
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(step * scale for step in (1, 2, 5, 10) if step * scale >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    room = 0.05 * ((max(values) - min(values)) or 1.0)
    return _Axis(min(values) - room, max(values) + room, start, end)


def _frame(x: _Axis, y: _Axis) -> str:
    bottom = HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>']
    for tick in round_ticks(x.low, x.high):
        parts.append(f'<path class="grid" d="M{x(tick)} {TOP}V{bottom}"/>')
        parts.append(f'<text class="tick x" x="{x(tick)}" y="{bottom + 22}">{tick:g}</text>')
    for tick in round_ticks(y.low, y.high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick y" x="{LEFT - 8}" y="{y(tick) + 5}">{tick:g}</text>')
    parts.append(f'<text class="x" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 10}">TFLOPs per video, counted</text>')
    parts.append(f'<text class="x" transform="translate(20 {bottom / 2}) rotate(-90)">PSNR, dB</text>')
    return "".join(parts)


def _family(points: Sequence[Point], family: str, look: Look, x: _Axis, y: _Axis) -> str:
    own = sorted((point for point in points if point["family"] == family), key=lambda point: point["cost"])
    path = " ".join(f"{x(point['cost'])},{y(point['quality'])}" for point in own)
    drawn = [f'<polyline {_dashes(look)} points="{path}"/>']
    for point in own:
        at, low, high = x(point["cost"]), y(point["low"]), y(point["high"])
        told = f"{point['name']}: {point['quality']:.1f} dB [{point['low']:.1f}, {point['high']:.1f}]"
        drawn.append(
            f'<g class="point"><title>{html.escape(told)}, {point["cost"]:.3f} TFLOPs</title>'
            f'<path class="interval" d="M{at} {low}V{high}"/>{_marker(look, at, y(point["quality"]))}</g>'
        )
    return f'<g class="family{" accent" * look.accent}" {_colours(look)}>{"".join(drawn)}</g>'


def _entry(family: str, look: Look) -> str:
    """A line of the legend."""
    line = f'<path class="line" {_dashes(look)} d="M1 8H33"/>{_marker(look, 17, 8)}'
    sample = f'<svg viewBox="0 0 34 16" width="34" height="16" aria-hidden="true" {_colours(look)}>{line}</svg>'
    name = f"<strong>{html.escape(family)}</strong>" if look.accent else html.escape(family)
    return f"<li>{sample}{name}</li>"


def _marker(look: Look, x: float, y: float) -> str:
    kind = "marker hollow" if look.hollow else "marker"
    return f'<path class="{kind}" transform="translate({x} {y}) scale(5)" d="{SHAPES[look.marker]}"/>'


def _dashes(look: Look) -> str:
    return f'stroke-dasharray="{" ".join(f"{2 * length:g}" for length in look.dashes)}"' if look.dashes else ""


def _colours(look: Look) -> str:
    return f'style="--on-light:{look.colour};--on-dark:{look.on_dark}"'
