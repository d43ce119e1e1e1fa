"""Golden schedules: times, step lengths, what every forward computes and sees, and guidance scales."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from motioncache_eval.parity import EXACT, FileReport, read_json
from motioncache_magi.loading.variants import released
from motioncache_magi.sampling.guidance import Guidance
from motioncache_magi.sampling.schedule import TimeShape, WindowSchedule, step_intervals, time_schedule
from motioncache_magi.sampling.step import Step

CHUNK_FRAMES = 6
CLEAN_TIME = float(torch.tensor(0.9999))


def check_schedules(path: Path) -> FileReport:
    """A `schedules.json`."""
    report, golden = FileReport(path.stem), read_json(path)
    for name, times in golden["t_schedule"].items():
        report.compare(name, _times(name), torch.tensor(times), EXACT)
    for name, lengths in golden["interval"].items():
        steps, mode = name.split(".")
        report.check(name, [float(x) for x in step_intervals(int(steps[1:]), mode)], lengths)
    for name, window in golden["windows"].items():
        _check_window(report, name, window)
    guidance = Guidance.of(released("4.5B_base"))
    for t, past, text in golden["cfg_scale_lookup"]:
        scales = guidance.scales(t)
        report.check(f"scales at {t}", (scales.past, scales.text), (past, text))
    return report


def _times(name: str) -> torch.Tensor:
    """Times for a name such as `n12.sd3_shift3.8,16,16`."""
    steps, shape, *mode = name.split(".")
    shape, _, shift = shape.partition("_shift")
    options = {"shortcut_mode": mode[0]} if mode else {}
    return time_schedule(int(steps[1:]), shape=TimeShape(shape), shift=float(shift or 3), **options)


def _check_window(report: FileReport, name: str, golden: dict[str, Any]) -> None:
    schedule = WindowSchedule(
        chunks=golden["chunk_num"],
        prefix_chunks=(golden["prefix_latent_frames"] or 0) // CHUNK_FRAMES,
        steps=golden["num_steps"],
        window=golden["window_size"],
        ranges=tuple(golden["noise2clean_kvrange"]),
        clean_range=golden["clean_chunk_kvrange"],
        shortcut_mode=golden["shortcut_mode"],
    )
    times = time_schedule(schedule.steps, shortcut_mode=schedule.shortcut_mode).tolist()
    guidance = replace(Guidance.of(released("4.5B_distill")), nearly_clean_from=golden["threshold"])
    report.check(f"{name}: steps", schedule.total, golden["total_steps"])
    given = [forward for forward in golden["forwards"] if forward["prefix_pass"]]
    seen = [list(step.refresh_range) for step in schedule.prefix_steps()]
    report.check(f"{name}: prefix", seen, [kv for forward in given for kv in forward["kv"]])
    ours = [_describe(step, times, guidance) for step in schedule]
    theirs = [{key: forward[key] for key in ours[0]} for forward in golden["forwards"] if not forward["prefix_pass"]]
    differing = [i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]]
    report.check(f"{name}: forwards", differing if len(ours) == len(theirs) else "another number", [])
    report.check(
        f"{name}: emission",
        [(step.index, step.finished - schedule.prefix_chunks) for step in schedule if step.finished is not None],
        [(emitted["after_step"], emitted["chunk_idx"]) for emitted in golden["emitted"]],
    )


def _describe(step: Step, times: list[float], guidance: Guidance) -> dict[str, Any]:
    """A step in the words of the golden file."""
    refreshed = step.refresh is not None
    return {
        "slice_point": step.refresh if refreshed else step.window.start,
        "extra": refreshed,
        "near_clean": guidance.repeats_nearly_clean(times[step.counts[0]]),
        "distill_interval": float(step.interval),
        "t": [CLEAN_TIME] * refreshed + [times[count] for count in step.counts],
        "kv": [list(step.refresh_range)] * refreshed + [list(seen) for seen in step.ranges],
    }
