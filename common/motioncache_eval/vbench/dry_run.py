"""Says what a run would make, and how long that takes, without a model."""

from collections import Counter
from statistics import fmean

from motioncache_eval.table import Table
from motioncache_eval.vbench.manifest import read_manifest
from motioncache_eval.vbench.plan import Plan
from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION


def describe_plan(plan: Plan) -> str:
    """Tables of the suites and of the presets, as Markdown, and the number of all videos."""
    total = len(plan.videos) * len(plan.policies)
    presets = "1 preset" if len(plan.policies) == 1 else f"{len(plan.policies)} presets"
    tables = (suite_table(plan), preset_table(plan))
    lines = [line for table in tables for line in (*table.markdown(), "")]
    return "\n".join(
        [f"{total} videos: {len(plan.videos)} of {presets}", "", *lines, f"They would be in {plan.output}."]
    )


def suite_table(plan: Plan) -> Table:
    """How many prompts and videos each suite has, and which dimensions are scored on them."""
    videos = Counter(video.suite for video in plan.videos)
    prompts = Counter(suite for suite, _ in {(video.suite, video.short) for video in plan.videos})
    rows = [
        [
            suite,
            str(prompts[suite]),
            str(count),
            ", ".join(name for name, of in SUITE_OF_DIMENSION.items() if of == suite),
        ]
        for suite, count in videos.items()
    ]
    return Table(title="Suites", header=["suite", "prompts", "videos of a preset", "dimensions"], rows=rows)


def preset_table(plan: Plan) -> Table:
    """How many hours one device needs for each preset, where it is known what a video takes."""
    rows = []
    for preset in plan.policies:
        entries = read_manifest(plan.folder(preset).manifest)
        seconds, source = seconds_per_video(plan, preset, [entry.seconds for entry in entries.values()])
        if seconds is None:
            rows.append([preset, "not known", "not known", "pass seconds_per_video={" + preset + ": SECONDS}"])
        else:
            rows.append([preset, f"{seconds:.4g}", f"{seconds * len(plan.videos) / 3600:.4g}", source])
    return Table(title="Presets", header=["preset", "seconds a video", "hours of one device", "measured"], rows=rows)


def seconds_per_video(plan: Plan, preset: str, measured: list[float]) -> tuple[float | None, str]:
    """What a video takes, and where that is from: the setting, or else the videos that are in the folder."""
    given = plan.settings.seconds_per_video.get(preset)
    if given is not None:
        return given, "seconds_per_video"
    return (fmean(measured), f"{len(measured)} videos in the folder") if measured else (None, "")
