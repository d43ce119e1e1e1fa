"""VBench's scores: how those of the dimensions are normalised and weighed, and the table of several presets.

Bounds and weights are those of VBench's own `scripts/constant.py`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from motioncache_eval.intervals import bootstrap_interval
from motioncache_eval.table import Table

QUALITY = (
    "subject_consistency",
    "background_consistency",
    "temporal_flickering",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)
SEMANTIC = (
    "object_class",
    "multiple_objects",
    "human_action",
    "color",
    "spatial_relationship",
    "scene",
    "appearance_style",
    "temporal_style",
    "overall_consistency",
)
BOUNDS = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
}
"""Of the scores that are not normalised from 0 to 1; a score beyond its bounds is not cut off."""

WEIGHTS = {"dynamic_degree": 0.5}
"""Of the dimensions that count another weight than 1 within their group."""

QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4, 1

IN_PERCENT = ("imaging_quality",)
"""Dimensions whose videos are scored from 0 to 100, and whose mean is from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What VBench found in one dimension.

    Attributes:
        value: of all videos.
        videos: of each, by file name; VBench has none for some dimensions.
        filtered: temporal_flickering was scored on the videos that VBench's static filter leaves.
    """

    value: float
    videos: Mapping[str, float] = field(default_factory=dict)
    filtered: bool = False


def normalised(dimension: str, score: float) -> float:
    """A dimension's score as it counts in the totals."""
    low, high = BOUNDS.get(dimension, (0.0, 1.0))
    return (score - low) / (high - low)


def group_score(scores: Mapping[str, float], dimensions: Sequence[str]) -> float | None:
    """The weighted mean of some dimensions; None if one of them has no score."""
    if not set(dimensions) <= set(scores):
        return None
    weights = {name: WEIGHTS.get(name, 1.0) for name in dimensions}
    total = sum(weights[name] * normalised(name, scores[name]) for name in dimensions)
    return total / sum(weights.values())


def totals(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Quality, semantic and total score, from 0 to 1; None where a dimension is missing.

    VBench's own script takes a missing dimension for 0, and prints a total that means nothing.
    """
    quality, semantic = group_score(scores, QUALITY), group_score(scores, SEMANTIC)
    total = None
    if quality is not None and semantic is not None:
        total = (QUALITY_WEIGHT * quality + SEMANTIC_WEIGHT * semantic) / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    return {"quality": quality, "semantic": semantic, "total": total}


def paired_differences(dimension: str, of: Score, reference: Score) -> list[float]:
    """By how much the videos of each prompt score higher than the reference's, over the videos that both have."""
    scale = 100.0 if dimension in IN_PERCENT else 1.0
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for name in sorted(set(of.videos) & set(reference.videos)):
        by_prompt[name.rpartition("-")[0]].append((of.videos[name] - reference.videos[name]) / scale)
    return [sum(values) / len(values) for values in by_prompt.values()]


def score_table(scores: Mapping[str, Mapping[str, Score]]) -> Table:
    """Presets side by side, in percent; each but the first one also has its difference from that.

    Args:
        scores: by preset and dimension. The first preset is the reference.
    """
    reference, *others = scores
    header = ["dimension", reference]
    for preset in others:
        header += [preset, f"{preset} - {reference}"]
    rows = [_dimension_row(name, scores) for name in (*QUALITY, *SEMANTIC) if any(name in of for of in scores.values())]
    sums = {preset: totals({name: score.value for name, score in of.items()}) for preset, of in scores.items()}
    for name in ("quality", "semantic", "total"):
        values = [sums[preset][name] for preset in scores]
        row = [f"**{name}**", _percent(values[0])]
        for value in values[1:]:
            row += [_percent(value), _difference(value, values[0])]
        rows.append(row)
    return Table(title="VBench", header=header, rows=rows)


def remarks(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """What a reader of the table has to know."""
    lines = ["In percent. In brackets: 95 % bootstrap interval of the difference over prompts."]
    unfiltered = [
        preset
        for preset, of in scores.items()
        if "temporal_flickering" in of and not of["temporal_flickering"].filtered
    ]
    if unfiltered:
        lines.append(
            f"temporal_flickering of {', '.join(unfiltered)} was scored without VBench's static filter, so it cannot "
            "be compared with VBench's leaderboard."
        )
    for preset, of in scores.items():
        missing = [name for name in (*QUALITY, *SEMANTIC) if name not in of]
        if missing:
            lines.append(
                f"{preset} has no total, for {len(missing)} of 16 dimensions have no score: {', '.join(missing)}."
            )
    return lines


def _dimension_row(name: str, scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    found = [of.get(name) for of in scores.values()]
    first = found[0]
    row = [name, _percent(first.value if first else None)]
    for score in found[1:]:
        difference = _difference(score.value if score else None, first.value if first else None)
        differences = paired_differences(name, score, first) if score and first else []
        if len(differences) > 1:
            low, high = bootstrap_interval(differences)
            difference += f" [{100 * low:+.2f}, {100 * high:+.2f}]"
        row += [_percent(score.value if score else None), difference]
    return row


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _difference(value: float | None, reference: float | None) -> str:
    return "-" if value is None or reference is None else f"{100 * (value - reference):+.2f}"
