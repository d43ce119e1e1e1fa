"""What a video will take: FLOPs and memory from its settings, time from what videos took on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from motioncache_eval.job_cost import JobCost
from motioncache_eval.studio.history import Entry
from motioncache_eval.studio.models import Wanted

SIZE = ("num_frames", "height", "width", "num_inference_steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a video takes, about; None stands for what cannot be known yet.

    Attributes:
        whole: FLOPs without a cache.
        flops: FLOPs with the policy. Those of a policy that decides while it samples are taken from its last video.
        seconds: on this machine, with decoding.
        memory: bytes at the peak.
    """

    whole: float | None
    flops: float | None
    seconds: float | None
    memory: int | None


def estimate(wanted: Wanted, cost: JobCost | None, entries: Sequence[Entry]) -> Estimate:
    """What a video takes.

    Args:
        cost: None if the model's package knows none.
        entries: of the history, the newest first.
    """
    made = [e.report for e in entries if e.state == "complete" and e.report["model"] == wanted.model]
    whole = None if cost is None else float(cost.flops)
    flops = None if whole is None else _flops(wanted, made, whole)
    memory = None if cost is None else cost.memory
    return Estimate(whole=whole, flops=flops, seconds=_seconds(wanted, made, flops), memory=memory)


def _flops(wanted: Wanted, reports: Sequence[dict[str, Any]], whole: float) -> float | None:
    if wanted.policy is None:
        return whole
    target = getattr(wanted.policy, "target_speedup", None)
    if target is not None:
        return whole / target
    shares = [r["flops"] / r["vanilla_flops"] for r in reports if r["preset"] == wanted.preset and r["vanilla_flops"]]
    return whole * shares[0] if shares else None


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
