"""Makes the videos of many prompts, each in a named file; an interrupted run goes on where it stopped."""

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError, MotionCacheError
from motioncache.whole_file import whole_file
from motioncache_eval.demo_results import describe_policy, used_calibration
from motioncache_eval.jobs import LoadedJob
from motioncache_eval.kept_settings import keep_settings, require_records
from motioncache_eval.outputs import make_folder
from motioncache_eval.report import environment, write_json
from motioncache_eval.sampling import Sample
from motioncache_eval.video import to_uint8, write_mp4

SETTINGS = "settings"
"""Stem of the file that says what all videos of a folder were made with."""

WITHOUT_EFFECT = (
    *("prompt", "output", "device", "cpu_offload", "kv", "split_guidance", "chunks_at_once"),
    *("preset", "target_speedup", "allow_foreign_calibration"),
)
"""Settings that may differ among the videos of a folder; the policy that a preset stands for is compared by itself."""

LONGEST_NAME = 80
"""Names that are made of prompts have no more bytes than this, besides what tells them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateConfig:
    """Settings of `generate` besides those of its job.

    Args:
        prompts: a text file with one prompt a line; null takes the one of `prompt`.
        names: a text file with one file name a line, without `.mp4`; null makes names of the prompts.
        output: folder that gets the videos, each with a JSON file of its settings and figures.
        parallel: what the processes that `torchrun` has started divide, each with a GPU of its own: `ulysses`, `cfg` or
            `cfg+ulysses`; null for one process.
    """

    prompts: str | None = None
    names: str | None = None
    output: str = "outputs/videos"
    parallel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video to make: the name of its file, without `.mp4`, and its prompt."""

    name: str
    prompt: str


def list_videos(prompts: Sequence[str], names: Sequence[str] | None) -> list[Video]:
    """The videos of some prompts.

    Args:
        names: of the files; None makes them of the prompts.

    Raises:
        ConfigError: for a prompt or a name that occurs twice, a name that no file can have, or too few or many names.
    """
    names = names_of(prompts) if names is None else names
    if len(names) != len(prompts):
        raise ConfigError(f"there are {len(names)} names for {len(prompts)} prompts: write one name for each prompt")
    _refuse_twice("names", [name.casefold() for name in names])  # some file systems know no case
    for name in names:
        if not name.strip(". ") or re.search(r'[/\\:*?"<>|\x00-\x1f]', name) or len(name.encode()) > 200:
            raise ConfigError(f"names: {name!r} cannot be the name of a file; write letters, digits, - and _")
        if name.casefold() == SETTINGS:
            raise ConfigError(f"names: {name!r} is the name of the file of settings; write another one")
    return [Video(name=name, prompt=prompt) for name, prompt in zip(names, prompts, strict=True)]


def names_of(prompts: Sequence[str]) -> list[str]:
    """File names that are made of prompts: the words, and a few digits where two prompts have the same words."""
    _refuse_twice("prompts", prompts)
    names: list[str] = []
    for prompt in prompts:
        words = (
            re.sub(r"\W+", "-", prompt.lower()).strip("-").encode()[:LONGEST_NAME].decode(errors="ignore").strip("-")
        )
        if not words or words == SETTINGS or words in names:
            words = f"{words or 'video'}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"
        names.append(words)
    return names


def _refuse_twice(what: str, values: Sequence[str]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ConfigError(f"{what}: {value!r} occurs twice, as number {values.index(value) + 1} and {index + 1}")


def settings_of(job: Any, policy: PolicyConfig | None) -> dict[str, Any]:
    """What the videos of a folder have in common."""
    values = {key: value for key, value in asdict(job).items() if key not in WITHOUT_EFFECT}
    if Path(job.model).exists():
        values["model"] = str(Path(job.model).resolve())
    return {**values, "policy": describe_policy(policy)}


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder and write its settings, or refuse a folder whose videos have other ones."""
    make_folder(folder)
    path = folder / f"{SETTINGS}.json"
    require_records(folder, any(folder.glob("*.mp4")), path)
    keep_settings(path, settings)


def missing_videos(folder: Path, videos: Sequence[Video]) -> list[Video]:
    """The videos that have no file yet.

    Raises:
        MotionCacheError: for a file of one of the names that was made from another prompt.
    """
    missing: list[Video] = []
    for video in videos:
        path = folder / f"{video.name}.mp4"
        if not path.exists():
            missing.append(video)
        elif _read_json(path.with_suffix(".json")).get("prompt") != video.prompt:
            raise MotionCacheError(
                f"{path} exists and was not made from the prompt {video.prompt!r}: pass another output, or other names"
            )
    return missing


def make_videos(loaded: LoadedJob, policy: PolicyConfig, videos: Sequence[Video], folder: Path) -> None:
    """Sample videos one after another, each into its file.

    An interrupt and an error say how many are complete.
    """
    started, done = time.perf_counter(), 0
    try:
        for done, video in enumerate(videos):
            label = f"{done + 1} of {len(videos)}" if len(videos) > 1 else video.name
            bar = {} if loaded.team.leads else {"disable": True}
            loaded.pipeline.set_progress_bar_config(desc=label, leave=False, mininterval=0.5, **bar)
            figures = make_video(loaded, policy, video, folder)
            print(f"{folder / video.name}.mp4  {figures}{time_left(started, done + 1, len(videos))}", flush=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {_complete(done, videos, folder)}") from None
    except MotionCacheError as error:
        raise type(error)(f"{error} ({_complete(done, videos, folder)})" if done else str(error)) from None


def make_video(loaded: LoadedJob, policy: PolicyConfig, video: Video, folder: Path) -> str:
    """Sample one video and write it; return its figures in words. The JSON file is there before the video is."""
    job = replace(loaded.job, prompt=video.prompt)
    sample, decoded = loaded.make_video(job, policy)
    if loaded.team.leads:
        path = folder / f"{video.name}.mp4"
        with whole_file(path) as temporary:
            write_mp4(temporary, to_uint8(decoded), fps=job.fps)
            report = video_report(job, policy, sample) | {"processes": loaded.team.size}
            write_json(path.with_suffix(".json"), report)
    assert sample.summary is not None
    fewer = sample.summary.vanilla_flops / max(sample.summary.flops, 1)
    return f"{sample.seconds:.1f} s, {sample.summary.flops / 1e12:.3g} TFLOPs, {fewer:.2f}x fewer than without a cache"


def video_report(job: Any, policy: PolicyConfig, sample: Sample) -> dict[str, Any]:
    """The content of a video's JSON file."""
    assert sample.summary is not None
    return {
        "prompt": job.prompt,
        "config": asdict(job),
        "policy": describe_policy(policy),
        "calibration": used_calibration(sample),
        **environment(job.device),
        "seconds": sample.seconds,
        "flops": sample.summary.flops,
        "vanilla_flops": sample.summary.vanilla_flops,
        "summary": asdict(sample.summary),
    }


def time_left(started: float, done: int, count: int) -> str:
    """How long the rest will take, in words; nothing at the end."""
    if done == count:
        return ""
    seconds = (time.perf_counter() - started) / done * (count - done)
    return f"; {done} of {count}, about {seconds / 60:.0f} min left" if seconds > 90 else f"; {done} of {count}"


def _complete(done: int, videos: Sequence[Video], folder: Path) -> str:
    return f"{done} of {len(videos)} videos were made and are in {folder}; the same command makes the rest"


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file that this module wrote; nothing of one that is missing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise MotionCacheError(f"{path} cannot be read ({error}): remove it, or pass another output") from None
