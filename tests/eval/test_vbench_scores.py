"""VBench's totals from the scores of its dimensions, and the table of presets."""

import pytest

from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION
from motioncache_eval.vbench.scores import (
    QUALITY,
    SEMANTIC,
    Score,
    normalised,
    paired_differences,
    remarks,
    score_table,
    totals,
)

# VBench's leaderboard as Goku (arXiv 2502.04896) and T2V-Turbo-v2 (arXiv 2410.05677) print it, in percent.
# Dimensions in the order of QUALITY and SEMANTIC; then quality, semantic and total. CogVideoX-5B and
# Kling are not here: they follow to 0.01 only, since dimensions are printed rounded.
PUBLISHED = {
    "HunyuanVideo": (
        (97.37, 97.76, 99.44, 98.99, 70.83, 60.36, 67.56),
        (86.10, 68.55, 94.40, 91.60, 68.68, 53.88, 19.80, 23.89, 26.44),
        ("85.09", "75.82", "83.24"),
    ),
    "VideoCrafter-2.0": (
        (96.85, 98.22, 98.41, 97.73, 42.50, 63.13, 67.22),
        (92.55, 40.66, 95.00, 92.92, 35.86, 55.29, 25.13, 25.84, 28.23),
        ("82.20", "73.42", "80.44"),
    ),
    "Gen-3": (
        (97.10, 96.62, 98.61, 99.23, 60.14, 63.34, 66.82),
        (87.81, 53.64, 96.40, 80.90, 65.09, 54.57, 24.31, 24.71, 26.69),
        ("84.11", "75.17", "82.32"),
    ),
    "Show-1": (
        (95.53, 98.02, 99.12, 98.24, 44.44, 57.35, 58.66),
        (93.07, 45.47, 95.60, 86.35, 53.50, 47.03, 23.06, 25.28, 27.46),
        ("80.42", "72.98", "78.93"),
    ),
}


def scores_of(model: str) -> dict[str, float]:
    quality, semantic, _ = PUBLISHED[model]
    return {name: value / 100 for name, value in zip((*QUALITY, *SEMANTIC), (*quality, *semantic), strict=True)}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_leaderboards_totals_follow_from_its_dimensions(model: str) -> None:
    found = totals(scores_of(model))
    assert tuple(f"{100 * (found[name] or 0):.2f}" for name in ("quality", "semantic", "total")) == PUBLISHED[model][2]


def test_the_dimensions_are_the_sixteen() -> None:
    assert sorted((*QUALITY, *SEMANTIC)) == sorted(SUITE_OF_DIMENSION)


@pytest.mark.parametrize("missing", [*QUALITY, *SEMANTIC])
def test_no_total_is_made_of_fewer_dimensions(missing: str) -> None:
    scores = scores_of("HunyuanVideo")
    del scores[missing]
    found = totals(scores)
    assert found["total"] is None
    assert (found["quality"] is None) == (missing in QUALITY)
    assert (found["semantic"] is None) == (missing in SEMANTIC)


def test_scores_are_normalised_and_not_cut_off() -> None:
    assert normalised("temporal_flickering", 0.6293) == 0
    assert normalised("scene", 0.8222) == 1
    assert normalised("motion_smoothness", 1.0) > 1
    assert normalised("color", 0.25) == 0.25
    equal = dict.fromkeys(QUALITY, 1.0) | {"motion_smoothness": 0.9975, "dynamic_degree": 0.0}
    assert totals(equal)["quality"] == pytest.approx(6 / 6.5)


def test_differences_are_paired_by_prompt() -> None:
    mine = Score(value=0.5, videos={"a-b-0.mp4": 0.4, "a-b-1.mp4": 0.6, "c-0.mp4": 0.9, "d-0.mp4": 1.0})
    other = Score(value=0.5, videos={"a-b-0.mp4": 0.2, "a-b-1.mp4": 0.2, "c-0.mp4": 0.8, "e-0.mp4": 0.0})
    assert paired_differences("color", mine, other) == pytest.approx([0.3, 0.1])
    assert paired_differences("imaging_quality", mine, other) == pytest.approx([0.003, 0.001])


def test_presets_stand_side_by_side_with_their_differences() -> None:
    first = {"color": Score(value=0.5, videos={"a-0.mp4": 0.25, "b-0.mp4": 0.75}), "scene": Score(value=0.4)}
    other = {"color": Score(value=0.375, videos={"a-0.mp4": 0.125, "b-0.mp4": 0.625})}
    table = score_table({"vanilla": first, "slow": other})
    assert table.header == ["dimension", "vanilla", "slow", "slow - vanilla"]
    assert list(table.rows) == [
        ["color", "50.00", "37.50", "-12.50 [-12.50, -12.50]"],
        ["scene", "40.00", "not measured", "-"],
        *([f"**{name}**", "-", "-", "-"] for name in ("quality", "semantic", "total")),
    ]


def test_a_missing_static_filter_and_missing_dimensions_are_told() -> None:
    scores = {
        "vanilla": {name: Score(value=value) for name, value in scores_of("HunyuanVideo").items()},
        "slow": {"temporal_flickering": Score(value=0.9, filtered=True)},
    }
    said = remarks(scores)
    assert any(line.startswith("temporal_flickering of vanilla was scored without VBench's static") for line in said)
    assert any(line.startswith("No total for slow: 15 of 16 dimensions have no score: subject_") for line in said)
    assert len(said) == 3
