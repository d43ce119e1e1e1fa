"""Samples all videos of a plan that are missing, with one worker per device."""

import sys
from collections.abc import Sequence
from pathlib import Path

from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra
from motioncache_eval.vbench.config import RAY
from motioncache_eval.vbench.deliver import Delivery, UnusableFolderError, accept
from motioncache_eval.vbench.dispatch import Dispatcher
from motioncache_eval.vbench.executor import Event, Executor
from motioncache_eval.vbench.executors import LOGS, make_executor
from motioncache_eval.vbench.folder import explain_errors, hold
from motioncache_eval.vbench.patience import Patience
from motioncache_eval.vbench.plan import Item, Plan
from motioncache_eval.vbench.progress import Progress, duration
from motioncache_eval.vbench.ray_head import require_ray


def sample_videos(plan: Plan, arguments: Sequence[str]) -> int:
    """Make what is missing.

    Args:
        arguments: what a worker makes the same plan of.

    Returns:
        An exit status: 0 if all videos are there, 1 if some failed.
    """
    require_extra("av", "writing videos")
    if plan.settings.executor == RAY:
        require_ray(plan.settings.address)
    with hold(plan.output) as lock:
        items = plan.items()
        missing = find_missing(plan)
        done = len(items) - len(missing)
        print(
            f"{len(items)} videos ({', '.join(plan.policies)}), {done} are there, {len(missing)} to sample", flush=True
        )
        if not missing:
            return 0
        with explain_errors(plan.output):
            (plan.output / LOGS).mkdir(exist_ok=True)
        return _sample(plan, missing, make_executor(plan, arguments, lock))


def find_missing(plan: Plan) -> list[Item]:
    """The items that have no whole video."""
    absent, decode = set(), plan.settings.verify == "decode"
    for preset in plan.policies:
        folder = plan.folder(preset)
        folder.prepare(plan.describe(preset), plan.videos)
        absent |= {Item(preset, video) for video in folder.find_missing(plan.videos, decode=decode)}
    return [item for item in plan.items() if item in absent]


def _sample(plan: Plan, missing: list[Item], executor: Executor) -> int:
    total = len(plan.items())
    progress = Progress(total - len(missing), total)

    def take(item: Item, event: Event) -> str | None:
        delivery = Delivery(**{name: value for name, value in event.items() if name != "event"})
        try:
            return accept(plan.folder(item.preset), item.video, delivery)
        except OSError as error:
            raise UnusableFolderError.because(error, item, plan.output) from None

    dispatcher = Dispatcher(missing, executor, take, progress, Patience(plan.settings.item_timeout))
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
