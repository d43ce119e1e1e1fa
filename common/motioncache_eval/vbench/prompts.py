"""VBench's prompts, and the file name of every video.

VBench looks for a video under the name `{prompt}-{index}.mp4` in one flat folder per suite. A suite is a list of
prompts; several dimensions may be scored on one suite's videos.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motioncache.config import read_text
from motioncache.errors import ConfigError
from motioncache.field_types import shown
from motioncache_eval.prompts import read_prompts
from motioncache_eval.vbench.package import packaged_full_info

SUITE_OF_DIMENSION = {
    "subject_consistency": "subject_consistency",
    "motion_smoothness": "subject_consistency",
    "dynamic_degree": "subject_consistency",
    "background_consistency": "scene",
    "scene": "scene",
    "overall_consistency": "overall_consistency",
    "aesthetic_quality": "overall_consistency",
    "imaging_quality": "overall_consistency",
    "temporal_flickering": "temporal_flickering",
    "object_class": "object_class",
    "multiple_objects": "multiple_objects",
    "human_action": "human_action",
    "color": "color",
    "spatial_relationship": "spatial_relationship",
    "appearance_style": "appearance_style",
    "temporal_style": "temporal_style",
}
"""The 16 dimensions, and the 11 suites whose videos they are scored on."""

MOST_VIDEOS = 1_000_000
"""Of a suite; VBench has 2,500 at most."""

_LONGEST_FILE_NAME = 255
"""Bytes that file systems allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video to make.

    Attributes:
        name: VBench's file name, made from the short prompt.
        short: the short prompt.
        prompt: the prompt that is sampled: the long one if there is one, else the short one.
    """

    suite: str
    name: str
    short: str
    prompt: str
    index: int

    @property
    def key(self) -> str:
        """What names the video within a preset's folder."""
        return f"{self.suite}/{self.name}"


def suites_of(dimensions: Sequence[str]) -> list[str]:
    """The suites whose videos some dimensions are scored on, each once."""
    return list(dict.fromkeys(SUITE_OF_DIMENSION[dimension] for dimension in check_dimensions(dimensions)))


def check_dimensions(dimensions: Sequence[str]) -> list[str]:
    """The names of dimensions, each once; `all` stands for the 16."""
    for dimension in dimensions:
        if dimension == "all":
            return list(SUITE_OF_DIMENSION)
        if dimension not in SUITE_OF_DIMENSION:
            raise ConfigError(
                f"vbench.dimensions: {dimension!r} is not a VBench dimension; allowed: all, "
                f"{', '.join(SUITE_OF_DIMENSION)}"
            )
    if not dimensions:
        raise ConfigError("vbench.dimensions is empty; name at least one dimension, such as subject_consistency")
    return list(dict.fromkeys(dimensions))


def list_videos(
    suites: Sequence[str],
    *,
    samples: int,
    full_info: Path | None,
    short: Path | None,
    long: Path | None,
    samples_of: Mapping[str, int] | None = None,
) -> list[Video]:
    """All videos of some suites.

    Args:
        samples: videos per prompt.
        full_info: `VBench_full_info.json`; None takes that of VBench's package.
        short: prompts to use instead of `full_info`: a folder of `{suite}.txt`, or one text file if there is one suite.
        long: prompts to sample instead of the short ones, line by line: a folder of `{suite}_longer.txt`, or one file.
        samples_of: videos per prompt of suites that have another number.
    """
    videos: list[Video] = []
    for suite in suites:
        count = (samples_of or {}).get(suite, samples)
        shorts = _distinct(_suite_file(short, suite, "", suites)) if short else _vbench_prompts(full_info, suite)
        longs = read_prompts(_suite_file(long, suite, "_longer", suites)) if long else shorts
        if len(shorts) != len(longs):
            raise ConfigError(
                f"{suite}: {len(shorts)} short prompts, but {len(longs)} long ones; pass one long prompt for each"
            )
        if len(shorts) * count > MOST_VIDEOS:
            raise ConfigError(f"{suite}: {len(shorts)} prompts of {count} videos each are more than {MOST_VIDEOS}")
        videos += [
            Video(suite=suite, name=file_name(prompt, index), short=prompt, prompt=long_prompt, index=index)
            for prompt, long_prompt in zip(shorts, longs, strict=True)
            for index in range(count)
        ]
    return videos


def file_name(prompt: str, index: int) -> str:
    """The name under which VBench looks for a prompt's video; it holds the prompt to the letter."""
    name = f"{prompt}-{index}.mp4"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"the prompt {shown(prompt)} is no text in UTF-8; pass another short prompt") from None
    if "/" in prompt or "\0" in prompt:
        raise ConfigError(
            f"the prompt {shown(prompt)} cannot be a file name, as VBench needs; pass another one with short_prompts="
        )
    if length > _LONGEST_FILE_NAME:
        raise ConfigError(
            f"the prompt {shown(prompt)} cannot be a file name, as VBench needs, for {name[-6:]!r} makes it {length} "
            f"bytes long, and {_LONGEST_FILE_NAME} are allowed: pass a shorter one with short_prompts=, and this one "
            "with long_prompts="
        )
    return name


def _suite_file(path: Path, suite: str, suffix: str, suites: Sequence[str]) -> Path:
    if path.is_dir():
        return path / f"{suite}{suffix}.txt"
    if len(suites) > 1:
        raise ConfigError(
            f"{path} is one file, but there are {len(suites)} suites: pass a folder of {{suite}}{suffix}.txt, or "
            "full_info= for VBench's own prompts"
        )
    return path


def _distinct(path: Path) -> list[str]:
    """The prompts of a text file; two that are equal would share the name of a file."""
    prompts = read_prompts(path)
    prompt, times = Counter(prompts).most_common(1)[0]
    if times > 1:
        raise ConfigError(
            f"{path} holds the prompt {shown(prompt)} {times} times, and its videos would have one file name: keep one "
            "of them, and one long prompt for it"
        )
    return prompts


def _vbench_prompts(path: Path | None, suite: str) -> list[str]:
    """The prompts of a suite in VBench's list, each once."""
    path = path or packaged_full_info()
    text = read_text(path, missing=f"{path} is not VBench's list of prompts: there is no such file")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not VBench's list of prompts: {error}") from None
    if not isinstance(entries, list):
        raise ConfigError(f"{path} is not VBench's list of prompts, but {shown(entries)}")
    prompts = [_prompt(entry, f"{path}: entry {i}") for i, entry in enumerate(entries) if _belongs(entry, suite)]
    if not prompts:
        raise ConfigError(f"{path} has no prompts for {suite}; pass VBench's own list, or short_prompts")
    return list(dict.fromkeys(prompts))


def _belongs(entry: Any, suite: str) -> bool:
    dimensions = entry.get("dimension") if isinstance(entry, dict) else None
    return isinstance(dimensions, list) and suite in dimensions


def _prompt(entry: dict[str, Any], where: str) -> str:
    prompt = entry.get("prompt_en")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError(f"{where}: prompt_en is {shown(prompt)}, and has to be a text; pass VBench's own list")
    return prompt
