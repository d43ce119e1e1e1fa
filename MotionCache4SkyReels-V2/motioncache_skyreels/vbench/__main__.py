"""Command line: `python -m motioncache_skyreels.vbench CONFIG.yaml [key=value ...]`.

Each of n devices has one process, which samples every n-th video. A video is written under a temporary name and renamed
when it is whole, so a file with its final name is complete, and the next run skips it.
"""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from motioncache.api import enable_cache
from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.extras import require_extra
from motioncache.registry import resolve_preset
from motioncache_eval.command import run_with_config
from motioncache_eval.settings import check_device
from motioncache_eval.video import to_uint8, write_mp4
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cli import quiet_libraries
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.load import check_folder, check_size, load_pipeline
from motioncache_skyreels.job.sample import decode, run_pipeline
from motioncache_skyreels.vbench.config import VBenchConfig, load_vbench
from motioncache_skyreels.vbench.prompts import Video, list_videos, suites_of

WORKER = "MOTIONCACHE_VBENCH_RANK"
"""Environment variable of a worker process: `rank/workers/device`."""


def main(arguments: list[str] | None = None) -> int:
    quiet_libraries()
    return run_with_config(run, __doc__, arguments)


def run(config: Path, overrides: list[str]) -> int:
    """Sample all videos that are missing; a worker process samples its share of them."""
    settings, job = load_vbench(config, overrides)
    policy = resolve_preset(SkyReelsAdapter(), job.preset, job.target_speedup)
    require_extra("av", "writing videos")
    videos = all_videos(settings)
    if WORKER not in os.environ:
        return start_workers([str(config), *overrides], videos, settings, job)
    rank, workers, device = os.environ[WORKER].split("/")
    share = missing_videos(videos[int(rank) :: int(workers)], settings)
    sample_videos(share, settings, replace(job, device=device), policy)
    return 0


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


def missing_videos(videos: list[Video], settings: VBenchConfig) -> list[Video]:
    """The videos that have no file yet."""
    return [video for video in videos if not video_path(settings, video).is_file()]


def start_workers(arguments: list[str], videos: list[Video], settings: VBenchConfig, job: JobConfig) -> int:
    """Start one process per device and wait for all of them.

    Returns:
        An exit status: 0 if all succeeded, 2 if one of them met a user's mistake, 1 if one failed in another way.
    """
    missing = missing_videos(videos, settings)
    print(f"{len(videos)} videos of {len({video.suite for video in videos})} suites, {len(missing)} to sample")
    if not missing:
        print(f"all videos are in {Path(settings.output) / 'videos'}")
        return 0
    devices = settings.devices or tuple(f"cuda:{i}" for i in range(torch.cuda.device_count())) or ("cpu",)
    for device in devices:
        check_device(device, job.cpu_offload)
    check_folder(job.model)
    make_folders(settings, videos)
    command = [sys.executable, "-m", "motioncache_skyreels.vbench", *arguments]
    workers = [
        subprocess.Popen(command, env=os.environ | {WORKER: f"{rank}/{len(devices)}/{device}"})
        for rank, device in enumerate(devices)
    ]
    statuses = [worker.wait() for worker in workers]
    failed = [device for device, status in zip(devices, statuses, strict=True) if status]
    if failed:
        print(
            f"error: the processes on {', '.join(failed)} failed; start again to sample what is missing",
            file=sys.stderr,
        )
        return 2 if 2 in statuses else 1
    print(f"all videos are in {Path(settings.output) / 'videos'}")
    return 0


def sample_videos(videos: list[Video], settings: VBenchConfig, job: JobConfig, policy: PolicyConfig) -> None:
    """Sample videos one after another, each into its file."""
    pipeline = load_pipeline(job)
    check_size(pipeline, job)
    pipeline.set_progress_bar_config(disable=True)
    enable_cache(pipeline, policy)
    for video in tqdm(videos, desc=job.device, unit="video"):
        latents = run_pipeline(pipeline, replace(job, prompt=video.prompt, seed=video_seed(job.seed, video)))
        final = video_path(settings, video)
        digest = hashlib.sha256(f"{video.suite}/{video.name}".encode()).hexdigest()[:24]
        temporary = partial_folder(settings) / f"{digest}-{os.getpid()}.mp4"
        write_mp4(temporary, to_uint8(decode(pipeline, latents)), fps=job.fps)
        temporary.replace(final)


def video_seed(seed: int, video: Video) -> int:
    """A seed that depends on the video alone, not on the order or the number of processes."""
    digest = hashlib.sha256(f"{seed}/{video.suite}/{video.name}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def video_path(settings: VBenchConfig, video: Video) -> Path:
    """The file in which VBench looks for a video; the folder of a suite holds nothing but videos."""
    return Path(settings.output) / "videos" / video.suite / video.name


def partial_folder(settings: VBenchConfig) -> Path:
    """The folder of videos that are not whole yet."""
    return Path(settings.output) / "partial"


def make_folders(settings: VBenchConfig, videos: list[Video]) -> None:
    try:
        for folder in {video_path(settings, video).parent for video in videos} | {partial_folder(settings)}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MotionCacheError(
            f"output={settings.output} cannot be written: {error.strerror}; pass another folder"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
