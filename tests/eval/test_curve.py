"""What the curve of a benchmark shows."""

from pathlib import Path

import numpy as np
from matplotlib import image

from motioncache_eval.bench.curve import curve, draw_curve, draw_drift
from motioncache_eval.bench.rows import Row
from motioncache_eval.bench.tables import best_first
from motioncache_eval.looks import family_looks


def row(name: str, qualities: list[float]) -> Row:
    cells = tuple({"flops": 1e12, "psnr_db": quality} for quality in qualities)
    return Row(name=name, folder=name, family=name, cells=cells, errors={})


def test_a_method_of_fewer_prompts_is_no_point_among_the_others() -> None:
    rows = [row("all", [30, 31, 32]), row("two", [40, 41]), row("identical", [120, 120, 120])]
    assert [(point["name"], point["quality"]) for point in curve(rows)] == [("all", 31)]


def test_pictures_have_the_colours_of_the_page(tmp_path: Path) -> None:
    points = [
        {"name": name, "family": name, "cost": cost, "quality": quality, "low": quality - 1, "high": quality + 1}
        for name, quality in (("TeaCache", 30.0), ("Forecast", 40.0))
        for cost in (1.0, 2.0)
    ]
    draw_curve(tmp_path / "curve.png", points)
    cells = tuple({"psnr_db": 30.0, "psnr_of_chunks_db": [31.0, 29.0]} for _ in range(2))
    rows = [Row(name=f"{name} {i}", folder="", family=name, cells=cells, errors={}) for name in ("TeaCache", "Forecast")
            for i in range(2)]  # fmt: skip
    draw_drift(tmp_path / "chunks.png", rows)
    drawn = image.imread(tmp_path / "curve.png")[..., :3].reshape(-1, 3)
    for look in family_looks(["TeaCache", "Forecast"]).values():
        wanted = [int(look.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (np.abs(drawn - wanted).sum(axis=1) < 0.02).sum() > 200
    assert (tmp_path / "chunks.png").stat().st_size > 0


def test_the_best_come_first_and_those_that_raised_last() -> None:
    raised = Row(name="b", folder="b", family="b", cells=({"psnr_db": 50},), errors={"001": "out of luck"})
    empty = Row(name="c", folder="c", family="c", cells=(), errors={"000": "out of luck"})
    rows = [empty, raised, row("low", [20]), row("vanilla", [120]), row("exact", [120]), row("high", [40])]
    assert [one.name for one in best_first(rows)] == ["vanilla", "exact", "high", "low", "b", "c"]
