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
DIMENSIONS = (*QUALITY, *SEMANTIC)

TOTALS = ("quality", "semantic", "total")

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
    return dict(zip(TOTALS, (quality, semantic, total), strict=True))


def paired_differences(dimension: str, of: Score, reference: Score) -> list[float]:
    """By how much the videos of each prompt score higher than the reference's, over the videos that both have."""
    scale = 100.0 if dimension in IN_PERCENT else 1.0
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for name in sorted(set(of.videos) & set(reference.videos)):
        by_prompt[name.rpartition("-")[0]].append((of.videos[name] - reference.videos[name]) / scale)
    return [sum(values) / len(values) for values in by_prompt.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A preset beside the reference, in one dimension.

    Attributes:
        difference: of the two scores, as VBench makes them.
        interval: 95 % bootstrap interval of the paired differences over prompts; None where VBench scores no single
            videos, or those of fewer than two prompts.
        prompts: how many were paired.
    """

    difference: float
    interval: tuple[float, float] | None
    prompts: int


def compare(dimension: str, of: Score, reference: Score) -> Comparison:
    """By how much a preset scores higher than the reference."""
    paired = paired_differences(dimension, of, reference)
    interval = bootstrap_interval(paired) if len(paired) > 1 else None
    return Comparison(difference=of.value - reference.value, interval=interval, prompts=len(paired))


def score_table(scores: Mapping[str, Mapping[str, Score]], asked: Sequence[str] = ()) -> Table:
    """Presets side by side, in percent; each but the first one also has its difference from that.

    Args:
        scores: by preset and dimension. The first preset is the reference.
        asked: dimensions that have a row, whether they were measured or not.
    """
    reference, *others = scores
    header = ["dimension", reference]
    for preset in others:
        header += [preset, f"{preset} - {reference}"]
    shown = [name for name in DIMENSIONS if name in asked or any(name in of for of in scores.values())]
    rows = [_dimension_row(name, scores) for name in shown]
    sums = {preset: totals({name: score.value for name, score in of.items()}) for preset, of in scores.items()}
    for name in TOTALS:
        values = [sums[preset][name] for preset in scores]
        row = [f"**{name}**", _percent(values[0])]
        for value in values[1:]:
            row += [_percent(value), _difference(value, values[0])]
        rows.append(row)
    return Table(title="VBench", header=header, rows=rows)


def remarks(
    scores: Mapping[str, Mapping[str, Score]], reasons: Mapping[str, Mapping[str, str]] | None = None
) -> list[str]:
    """What a reader of the table has to know.

    Args:
        reasons: by preset and dimension, why there is no score.
    """
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
    lines += _not_measured(reasons or {})
    return lines + _without_total(scores)


def _without_total(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """A sentence for all presets that lack the same dimensions."""
    lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for preset, of in scores.items():
        lacking[tuple(name for name in DIMENSIONS if name not in of)].append(preset)
    return [
        f"No total for {', '.join(presets)}: {len(missing)} of 16 dimensions have no score: {', '.join(missing)}."
        for missing, presets in lacking.items()
        if missing
    ]


def _not_measured(reasons: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A sentence for each reason, with all that was not measured for it."""
    places: dict[str, list[str]] = defaultdict(list)
    for preset, by_dimension in reasons.items():
        for dimension, reason in by_dimension.items():
            places[reason].append(f"{dimension} of {preset}")
    return [f"Not measured: {', '.join(found)}. {reason}." for reason, found in places.items()]


def _dimension_row(name: str, scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    first, *others = (of.get(name) for of in scores.values())
    row = [name, _score(first)]
    for score in others:
        if score is None or first is None:
            row += [_score(score), "-"]
            continue
        found = compare(name, score, first)
        interval = "" if found.interval is None else " [{:+.2f}, {:+.2f}]".format(*(100 * x for x in found.interval))
        row += [_score(score), f"{100 * found.difference:+.2f}{interval}"]
    return row


def _score(score: Score | None) -> str:
    return "not measured" if score is None else _percent(score.value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _difference(value: float | None, reference: float | None) -> str:
    return "-" if value is None or reference is None else f"{100 * (value - reference):+.2f}"
