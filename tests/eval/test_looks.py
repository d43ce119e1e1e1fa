"""Families of methods can be told apart in pictures, by colour and without it."""

import itertools

import numpy as np
import pytest

from motioncache_eval.looks import COLOURS, MARKERS, family_looks
from motioncache_eval.page.chart import SHAPES, draw_chart, round_ticks

METHODS = [
    "DBCache with TaylorSeer", "FirstBlockCache", "FlowCache", "fewer steps", "DBCache", "TeaCache", "MotionCache",
    "Forecast", "MotionCache (published code)", "MagCache",
]  # fmt: skip

# What the colours become for eyes without the first or the second kind of cones, in linear RGB (Machado et al. 2009).
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(colour: np.ndarray) -> np.ndarray:
    """Björn Ottosson's OKLab, in which distances are about as large as they are seen."""
    cones = [[0.4122215, 0.5363325, 0.0514460], [0.2119035, 0.6806995, 0.1073970], [0.0883025, 0.2817188, 0.6299787]]
    axes = [[0.2104543, 0.7936178, -0.0040720], [1.9779985, -2.4285922, 0.4505937], [0.0259040, 0.7827718, -0.8086758]]
    return np.array(axes) @ np.cbrt(np.array(cones) @ np.clip(colour, 0, 1))


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("eyes", [np.eye(3), np.array(PROTANOPIA), np.array(DEUTERANOPIA)])
def test_the_colours_differ_for_all_eyes(scheme: int, eyes: np.ndarray) -> None:
    seen = [oklab(eyes @ linear(pair[scheme])) for pair in COLOURS]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 0.08  # 0.02 can be seen


def test_our_method_has_the_accent_and_variants_share_a_colour() -> None:
    looks = family_looks(METHODS)
    assert [family for family, look in looks.items() if look.accent] == ["Forecast"] == [*looks][:1]
    assert len({look.colour for look in looks.values()}) == 8
    assert looks["MotionCache"].colour == looks["MotionCache (published code)"].colour
    assert looks["DBCache"].colour == looks["DBCache with TaylorSeer"].colour
    assert (looks["DBCache"].dashes, looks["DBCache"].hollow) == ((), False)
    assert looks["DBCache with TaylorSeer"].dashes
    assert len({(look.marker, look.dashes) for look in looks.values()}) == len(METHODS)  # without colours, too
    assert [*looks][-1] == "MagCache"  # those of other packages come last


def test_a_method_looks_the_same_on_every_page_and_unknown_ones_differ() -> None:
    assert family_looks(["TeaCache", "forecast"])["TeaCache"] == family_looks(METHODS)["TeaCache"]
    ablation = ["all three", "forecast alone", "none of them", "plan alone", "window decision alone",
                "without forecast", "without plan", "without window decision"]  # fmt: skip
    looks = family_looks(ablation)
    assert len({look.colour for look in looks.values()}) == 8
    assert looks["all three"].accent
    many = family_looks([*METHODS, *(f"other {i}" for i in range(3))])
    assert sum(look.accent for look in many.values()) == 1
    assert len({(look.marker, look.dashes) for look in many.values()}) == 13


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.152, 0.338, [0.2, 0.25, 0.3]),
        (9.1, 53.7, [10, 20, 30, 40, 50]),
        (0, 6, [0, 1, 2, 3, 4, 5, 6]),
        (27.3, 29.1, [27.5, 28, 28.5, 29]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


def test_a_chart_names_its_points_and_escapes_them() -> None:
    point = {"name": "a <b>", "family": "a <b>", "cost": 1.0, "quality": 30.0, "low": 29.0, "high": 31.0}
    chart = draw_chart([point, point | {"family": "Forecast", "name": "Forecast at 0.5", "cost": 0.5}])
    assert "<title>a &lt;b&gt;: 30.0 dB [29.0, 31.0], 1.000 TFLOPs</title>" in chart
    assert chart.index('class="family accent"') > chart.index('class="family"')  # drawn on top
    assert "<strong>Forecast</strong>" in chart
    assert draw_chart([]) == ""
    assert draw_chart([point | {"low": 30.0, "high": 30.0}])  # a single point has no range
    assert set(SHAPES) == set(MARKERS)
