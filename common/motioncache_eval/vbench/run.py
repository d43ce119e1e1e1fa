"""Samples all videos of a plan that are missing, with one process per device."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra
from motioncache_eval.settings import check_device
from motioncache_eval.vbench.dispatch import Dispatcher
from motioncache_eval.vbench.folder import explain_errors, hold
from motioncache_eval.vbench.plan import Item, Plan
from motioncache_eval.vbench.progress import Progress, duration
from motioncache_eval.vbench.workers import Worker

SAMPLER = "motioncache_eval.vbench.sampler"


def sample_videos(plan: Plan, arguments: Sequence[str]) -> int:
    """Make what is missing.

    Args:
        arguments: what a worker makes the same plan of.

    Returns:
        An exit status: 0 if all videos are there, 1 if some failed.
    """
    require_extra("av", "writing videos")
    devices = plan.settings.devices or tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())) or ("cpu",)
    with hold(plan.output) as lock:
        items = plan.items()
        missing = find_missing(plan)
        done = len(items) - len(missing)
        print(
            f"{len(items)} videos ({', '.join(plan.policies)}), {done} are there, {len(missing)} to sample", flush=True
        )
        if not missing:
            return 0
        for device in devices:
            check_device(device, plan.job.cpu_offload)
        return _sample(plan, missing, devices, arguments, lock)


def find_missing(plan: Plan) -> list[Item]:
    """The items that have no whole video."""
    absent = set()
    for preset in plan.policies:
        folder = plan.folder(preset)
        folder.prepare(plan.describe(preset), plan.videos)
        absent |= {Item(preset, video) for video in folder.find_missing(plan.videos)}
    return [item for item in plan.items() if item in absent]


def _sample(plan: Plan, missing: list[Item], devices: Sequence[str], arguments: Sequence[str], lock: int) -> int:
    logs, total = plan.output / "logs", len(plan.items())
    with explain_errors(plan.output):
        logs.mkdir(exist_ok=True)

    def start(place: int, device: str) -> Worker:
        log = logs / f"worker-{place}-{device.replace(':', '')}.log"
        with explain_errors(plan.output):
            return Worker(SAMPLER, device, arguments, log=log, lock=lock)

    progress = Progress(total - len(missing), total)
    dispatcher = Dispatcher(missing, devices, start, progress)
    try:
        dispatcher.run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {_left(progress, missing)}") from None
    except MotionCacheError as error:
        raise MotionCacheError(f"{error} ({_left(progress, missing)})" if progress.made else str(error)) from None
    progress.finish()
    return _summarise(plan, dispatcher.failed, progress)


def _left(progress: Progress, missing: list[Item]) -> str:
    return f"{progress.made} videos were made, {len(missing) - progress.made} are missing; the same command makes them"


def _summarise(plan: Plan, failed: dict[Item, str], progress: Progress) -> int:
    made = f"{progress.made} videos were made in {duration(progress.seconds)}"
    if not failed:
        print(f"{made}; all {len(plan.items())} are in {_where(plan)}")
        return 0
    for item, reason in failed.items():
        print(f"error: {item}: {reason}", file=sys.stderr)
    print(f"{made}; {len(failed)} failed, and the same command tries them again", file=sys.stderr)
    return 1


def _where(plan: Plan) -> str:
    return ", ".join(str(Path(plan.settings.output) / preset / "videos") for preset in plan.policies)
