"""Makes videos in a worker process: loads the model once, and makes each video that is asked for."""

import os
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.jobs import LoadedJob, explain_out_of_memory, find_model
from motioncache_eval.sampling import Sample
from motioncache_eval.vbench.check import VideoSize, video_fault
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.manifest import Entry, add_entry, describe_file
from motioncache_eval.vbench.plan import Item, Plan, make_plan
from motioncache_eval.vbench.record import keep_settings
from motioncache_eval.vbench.worker import Channel
from motioncache_eval.video import to_uint8, write_mp4


class UnusableFolderError(MotionCacheError):
    """The disk is full or gone, which no other item would fare better with."""


def work(channel: Channel, device: str, arguments: list[str]) -> None:
    """Make all videos that the channel asks for.

    Args:
        arguments: name of the model, path of the YAML file, and the overrides.
    """
    try:
        plan, loaded = _load(device, arguments)
        while True:
            item = Item.from_json(channel.next_order())
            reason = make_or_explain(plan, loaded, item)
            channel.send(**({"event": "made"} if reason is None else {"event": "failed", "reason": reason}))
    except MotionCacheError as error:
        channel.send(event="stop", reason=str(error))


def _load(device: str, arguments: list[str]) -> tuple[Plan, LoadedJob]:
    name, config, *overrides = arguments
    plan = make_plan(find_model(name), Path(config), overrides)
    for preset in plan.policies:  # the files may have changed since the run began
        keep_settings(plan.folder(preset).settings, plan.describe(preset))
    loaded = plan.model.load(replace(plan.job, device=device))
    loaded.pipeline.set_progress_bar_config(disable=True)
    for policy in plan.policies.values():
        if policy is not None:
            loaded.check(policy)
    return plan, loaded


def make_or_explain(plan: Plan, loaded: LoadedJob, item: Item) -> str | None:
    """Make a video; return in one line why that failed, if it did.

    Raises:
        UnusableFolderError: if the folder cannot be written.
    """
    print(f"{item}", flush=True)
    try:
        reason = make_item(plan, loaded, item)
    except UnusableFolderError:
        raise
    except MotionCacheError as error:
        reason = str(error)
    except Exception as error:  # whatever one video meets, the others may not
        traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if reason is not None:
        print(f"{item} failed: {reason}", flush=True)
        if loaded.job.device.startswith("cuda"):
            torch.cuda.empty_cache()  # of a video that was too large
    return reason


def make_item(plan: Plan, loaded: LoadedJob, item: Item) -> str | None:
    """Make one video, and give it its name if it is whole; return what is wrong with it."""
    seed = plan.seed(item.video)
    job = replace(loaded.job, prompt=item.video.prompt, **({} if seed is None else {"seed": seed}))
    with explain_out_of_memory(job):
        loaded.encode(job)
    sample, frames = loaded.make_video(job, plan.policies[item.preset])
    if not frames.isfinite().all():
        return "its values are not finite; try dtype=float32 or another preset"
    try:
        return keep_video(plan.folder(item.preset), item, job, sample, frames)
    except OSError as error:
        raise UnusableFolderError(
            f"{item} cannot be written to output={plan.output}: {error.strerror or error}; free some space, and start "
            "again to make what is missing"
        ) from None


def keep_video(folder: OutputFolder, item: Item, job: Any, sample: Sample, frames: torch.Tensor) -> str | None:
    """Write a video, enter it, and give it its name; each is on the disk before the next begins.

    Args:
        frames: float `[frames, 3, height, width]` in [0, 1].
    """
    partial, final = folder.partial_path(item.video), folder.path(item.video)
    try:
        write_mp4(partial, to_uint8(frames), fps=job.fps)
        fault = video_fault(partial, VideoSize(frames=job.num_frames, height=job.height, width=job.width))
        if fault is not None:
            return f"{fault}; try dtype=float32 or another preset"
        _synchronise(partial)
        size, digest = describe_file(partial)
        flops = None if sample.summary is None else sample.summary.flops
        entry = Entry(
            video=item.video.key, size=size, sha256=digest, seconds=sample.seconds, seed=job.seed, flops=flops
        )
        add_entry(folder.manifest, entry)
        partial.replace(final)
        _synchronise(final.parent)
    finally:
        partial.unlink(missing_ok=True)
    return None


def _synchronise(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
