"""The page of a VBench run: the scores, and the videos of any prompt side by side, which stay in their own files."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from motioncache_eval.page.build import draw_table, read_part, section, write_document
from motioncache_eval.table import Table
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION
from motioncache_eval.vbench.scores import TOTALS, Score
from motioncache_eval.video import frame_rate

DIGITS = 4
"""Of the score of a video."""


def write_scores_page(
    plan: Plan, scores: Mapping[str, Mapping[str, Score]], table: Table, notes: Sequence[str]
) -> Path:
    """Write `report.html`, which plays the videos beside it; it stays small however many there are.

    Args:
        scores: by preset and dimension.
        notes: sentences below the table.
    """
    path = plan.output / "report.html"
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    prompts = len({(video.suite, video.short) for video in plan.videos})
    plain = replace(table, rows=[[row[0].strip("*").replace("_", " "), *row[1:]] for row in table.rows])
    main = [
        section("Scores", f"{draw_table(plain, TOTALS)}<ul>{listed}</ul>"),
        section("Videos", read_part("scores.html")),
    ]
    lead = f"{prompts} prompts, {len(plan.videos)} videos of each of {', '.join(plan.policies)}."
    write_document(
        path,
        heading=f"VBench on {Path(plan.job.model).name}",
        lead=f"<p>{html.escape(lead)}</p>",
        main="\n".join(main),
        data={
            "presets": list(plan.policies),
            "fps": _frame_rate(plan),
            "suites": _suites(plan),
            "scores": {preset: _of_videos(of) for preset, of in scores.items()},
        },
        script="scores.js",
    )
    return path


def _suites(plan: Plan) -> dict[str, Any]:
    """By suite the prompts, how many videos each has, and the dimensions that are scored on them."""
    suites: dict[str, Any] = {}
    for video in plan.videos:
        of = suites.setdefault(video.suite, {"prompts": [], "samples": 1, "dimensions": []})
        if video.index == 0:
            of["prompts"].append(video.short)
        of["samples"] = max(of["samples"], video.index + 1)
    for dimension, suite in SUITE_OF_DIMENSION.items():
        if suite in suites:
            suites[suite]["dimensions"].append(dimension)
    return suites


def _of_videos(scores: Mapping[str, Score]) -> dict[str, dict[str, float]]:
    """By dimension, the scores of single videos by file name, as VBench gives them."""
    return {
        name: {video: round(value, DIGITS) for video, value in score.videos.items()} for name, score in scores.items()
    }


def _frame_rate(plan: Plan) -> float:
    """Of a video that was made; a model may have a rate of its own, which the job doesn't name."""
    found = (plan.folder(preset).path(video) for preset in plan.policies for video in plan.videos)
    first = next((path for path in found if path.is_file()), None)
    return (frame_rate(first) if first else None) or plan.job.fps or 24
