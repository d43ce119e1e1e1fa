"""Makes videos in a worker process: loads the model once, and makes each video that is asked for."""

import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.jobs import LoadedJob, explain_out_of_memory, find_model
from motioncache_eval.kept_settings import Record, read_record, refuse_other_settings
from motioncache_eval.vbench.deliver import Delivery, UnusableFolderError, deliver
from motioncache_eval.vbench.executor import Event
from motioncache_eval.vbench.plan import Item, Plan, make_plan
from motioncache_eval.vbench.worker import Channel


def work(channel: Channel, device: str, arguments: list[str]) -> None:
    """Make all videos that the channel asks for.

    Args:
        arguments: name of the model, path of the YAML file, and the overrides.
    """
    try:
        name, config, *overrides = arguments
        plan = make_plan(find_model(name), Path(config), overrides)
        loaded = load(plan, device, {preset: read_record(plan.folder(preset).settings) for preset in plan.policies})
        while True:
            channel.send(**answer(plan, loaded, channel.next_order()))
    except MotionCacheError as error:
        channel.send(event="stop", reason=str(error))


def load(plan: Plan, device: str, records: Mapping[str, Record | None]) -> LoadedJob:
    """Load the model of a plan.

    Args:
        records: of each preset, what the run's process has recorded; files may have changed since, or another machine
            may have others.
    """
    for preset, record in records.items():
        refuse_other_settings(plan.folder(preset).root, record or {}, plan.describe(preset))
    loaded = plan.model.load(replace(plan.job, device=device))
    loaded.pipeline.set_progress_bar_config(disable=True)
    for policy in plan.policies.values():
        if policy is not None:
            loaded.check(policy)
    return loaded


def answer(plan: Plan, loaded: LoadedJob, order: dict[str, Any], *, send: bool = False) -> Event:
    """Make what is asked for, and say what came of it.

    Args:
        send: send the file's content instead of writing to the folder.
    """
    made = make_or_explain(plan, loaded, Item.from_json(order), send=send)
    if isinstance(made, Delivery):
        return {"event": "made", **asdict(made)}
    return {"event": "failed", "reason": made}


def make_or_explain(plan: Plan, loaded: LoadedJob, item: Item, *, send: bool = False) -> Delivery | str:
    """Make a video; return in one line why that failed, if it did.

    Raises:
        UnusableFolderError: if the folder cannot be written.
    """
    log(f"{item}", item, plan.output)
    try:
        made = make_item(plan, loaded, item, send=send)
    except UnusableFolderError:
        raise
    except MotionCacheError as error:
        made = str(error)
    except Exception as error:  # whatever one video meets, the others may not
        log(traceback.format_exc(), item, plan.output)
        made = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    if isinstance(made, str):
        log(f"{item} failed: {made}", item, plan.output)
        if loaded.job.device.startswith("cuda"):
            torch.cuda.empty_cache()  # of a video that was too large
    return made


def log(text: str, item: Item, output: Path) -> None:
    """Print to the worker's log, which is on the disk that the videos are on."""
    try:
        print(text, flush=True)
    except OSError as error:
        raise UnusableFolderError.because(error, item, output) from None


def make_item(plan: Plan, loaded: LoadedJob, item: Item, *, send: bool) -> Delivery | str:
    """Make one video, and deliver it if it is whole; return what is wrong with it."""
    seed = plan.seed(item.video)
    job = replace(loaded.job, prompt=item.video.prompt, **({} if seed is None else {"seed": seed}))
    with explain_out_of_memory(job):
        loaded.encode(job)
    sample, frames = loaded.make_video(job, plan.policies[item.preset])
    if not frames.isfinite().all():
        return "its values are not finite; try dtype=float32 or another preset"
    try:
        return deliver(None if send else plan.folder(item.preset), item.video, job, sample, frames)
    except OSError as error:
        raise UnusableFolderError.because(error, item, plan.output) from None
