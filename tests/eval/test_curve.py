"""What the curve of a benchmark shows."""

from motioncache_eval.bench.curve import curve
from motioncache_eval.bench.rows import Row


def row(name: str, qualities: list[float]) -> Row:
    cells = tuple({"flops": 1e12, "psnr_db": quality} for quality in qualities)
    return Row(name=name, folder=name, family=name, cells=cells, errors={})


def test_a_method_of_fewer_prompts_is_no_point_among_the_others() -> None:
    rows = [row("all", [30, 31, 32]), row("two", [40, 41]), row("identical", [120, 120, 120])]
    assert [(point["name"], point["quality"]) for point in curve(rows)] == [("all", 31)]
