"""Command line: `python -m motioncache_skyreels.vbench CONFIG.yaml [key=value ...]`.

Each device has one process, which makes the videos that no other one has taken. A video is written under a temporary
name and renamed when it is whole; the next run makes those that are missing or no whole videos.
"""

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from motioncache.api import enable_cache
from motioncache.config import PolicyConfig
from motioncache.extras import require_extra
from motioncache_eval.command import run_with_config
from motioncache_eval.jobs import policy_of
from motioncache_eval.settings import check_device
from motioncache_eval.vbench.check import VideoSize
from motioncache_eval.vbench.config import VBenchConfig
from motioncache_eval.vbench.folder import OutputFolder
from motioncache_eval.vbench.prompts import Video, list_videos, suites_of
from motioncache_eval.vbench.queue import make_videos
from motioncache_eval.vbench.record import keep_settings
from motioncache_eval.vbench.workers import DEVICE, run_workers
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cli import quiet_libraries
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.load import check_folder, check_size, load_pipeline
from motioncache_skyreels.job.sample import decode, run_pipeline
from motioncache_skyreels.vbench.config import describe_settings, load_vbench


def main(arguments: list[str] | None = None) -> int:
    quiet_libraries()
    return run_with_config(run, __doc__, arguments)


def run(config: Path, overrides: list[str]) -> int:
    """Sample all videos that are missing; a worker process samples those that no other one has taken."""
    settings, job = load_vbench(config, overrides)
    policy = policy_of(SkyReelsAdapter(), job)
    require_extra("av", "writing videos")
    videos = all_videos(settings)
    if DEVICE in os.environ:
        sample_videos(videos, settings, replace(job, device=os.environ[DEVICE]), policy)
        return 0
    check_folder(job.model)
    return start_workers([str(config), *overrides], videos, settings, job, policy)


def all_videos(settings: VBenchConfig) -> list[Video]:
    """The videos of the chosen dimensions, in a fixed order."""
    return list_videos(
        suites_of(settings.dimensions),
        samples=settings.samples_per_prompt,
        full_info=_path(settings.full_info),
        short=_path(settings.short_prompts),
        long=_path(settings.long_prompts),
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def start_workers(
    arguments: list[str], videos: list[Video], settings: VBenchConfig, job: JobConfig, policy: PolicyConfig
) -> int:
    """Start one process per device and wait for all of them.

    Returns:
        An exit status: 0 if all succeeded, 2 if one of them met a user's mistake, 1 if one failed in another way.
    """
    devices = settings.devices or tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())) or ("cpu",)
    folder = OutputFolder(Path(settings.output))
    with folder.lock() as lock:
        folder.prepare(describe_settings(job, policy), videos)
        missing = folder.find_missing(videos, video_size(job))
        print(f"{len(videos)} videos of {len({video.suite for video in videos})} suites, {len(missing)} to sample")
        for device in devices if missing else ():
            check_device(device, job.cpu_offload)
        statuses = run_workers("motioncache_skyreels.vbench", arguments, devices, lock) if missing else []
    failed = [device for device, status in zip(devices, statuses, strict=False) if status]
    if failed:
        print(
            f"error: the processes on {', '.join(failed)} failed; start again to sample what is missing",
            file=sys.stderr,
        )
        return 2 if 2 in statuses else 1
    print(f"all videos are in {folder.videos}")
    return 0


def sample_videos(videos: list[Video], settings: VBenchConfig, job: JobConfig, policy: PolicyConfig) -> None:
    """Load the model and sample videos one after another, each into its file."""
    folder = OutputFolder(Path(settings.output))
    keep_settings(folder.settings, describe_settings(job, policy))  # the files may have changed meanwhile
    pipeline = load_pipeline(job)
    check_size(pipeline, job)
    pipeline.set_progress_bar_config(disable=True)
    enable_cache(pipeline, policy)

    def make(video: Video) -> torch.Tensor:
        latents = run_pipeline(pipeline, replace(job, prompt=video.prompt, seed=video_seed(job.seed, video)))
        return decode(pipeline, latents)

    make_videos(videos, folder, make, size=video_size(job), fps=job.fps, name=job.device)


def video_size(job: JobConfig) -> VideoSize:
    """The size of every video."""
    return VideoSize(frames=job.num_frames, height=job.height, width=job.width)


def video_seed(seed: int, video: Video) -> int:
    """A seed that depends on the video alone, not on the order or the number of processes."""
    digest = hashlib.sha256(f"{seed}/{video.suite}/{video.name}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


if __name__ == "__main__":
    sys.exit(main())
