"""What a video will take, from what videos of the history took."""

from collections.abc import Sequence
from typing import Any

from motioncache_eval.studio.history import Entry
from motioncache_eval.studio.models import Wanted

SIZE = ("num_frames", "height", "width", "num_inference_steps")


def estimate(wanted: Wanted, entries: Sequence[Entry]) -> str:
    """FLOPs and seconds of a video, in words, as far as complete videos of its model tell."""
    alike = [e.report for e in entries if e.state == "complete" and e.report["model"] == wanted.model]
    flops = _flops(wanted, alike)
    seconds = _seconds(wanted, alike, flops)
    if flops is None and seconds is None:
        return "What it takes is known after the first video of this model and size."
    cost = [] if flops is None else [f"about {flops / 1e12:.3g} TFLOPs"]
    cost += [] if seconds is None else [f"about {seconds:.0f} s on this machine"]
    return f"It takes {', '.join(cost)}."


def _flops(wanted: Wanted, reports: Sequence[dict[str, Any]]) -> float | None:
    same = [report for report in reports if _same_size(wanted, report) and report["vanilla_flops"]]
    if not same:
        return None
    whole = float(same[0]["vanilla_flops"])
    if wanted.policy is None:
        return whole
    target = getattr(wanted.policy, "target_speedup", None)
    if target is not None:
        return whole / target
    taken = [report["flops"] for report in same if report["preset"] == wanted.preset]
    return float(taken[0]) if taken else None


def _seconds(wanted: Wanted, reports: Sequence[dict[str, Any]], flops: float | None) -> float | None:
    """The time of the last such video; without one, that of its FLOPs at the rate of the last video of the model."""
    taken = [r["seconds"] for r in reports if _same_size(wanted, r) and _same_policy(wanted, r)]
    if taken:
        return float(taken[0])
    rates = [report["seconds"] / report["flops"] for report in reports if report["flops"]]
    return flops * rates[0] if flops is not None and rates else None


def _same_size(wanted: Wanted, report: dict[str, Any]) -> bool:
    """Whether a video had the same size; a job may leave a size to the model, and then so did the other."""
    return all(getattr(wanted.job, key) in (None, report["config"].get(key)) for key in SIZE)


def _same_policy(wanted: Wanted, report: dict[str, Any]) -> bool:
    target = getattr(wanted.job, "target_speedup", None)
    return report["preset"] == wanted.preset and report["config"].get("target_speedup") == target
