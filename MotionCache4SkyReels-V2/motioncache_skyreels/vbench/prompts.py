"""VBench's prompts, and the file name of every video.

VBench looks for a video under the name `{prompt}-{index}.mp4` in one flat folder per suite. A suite is a list of
prompts; several dimensions may be scored on one suite's videos.
"""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from motioncache.errors import ConfigError
from motioncache_eval.prompts import read_prompts

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

_LONGEST_FILE_NAME = 255
"""Bytes that file systems allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video to make.

    Attributes:
        name: VBench's file name, made from the short prompt.
        prompt: the prompt that is sampled: the long one if there is one, else the short one.
    """

    suite: str
    name: str
    prompt: str
    index: int


def suites_of(dimensions: Sequence[str]) -> list[str]:
    """The suites whose videos some dimensions are scored on, each once."""
    for dimension in dimensions:
        if dimension not in SUITE_OF_DIMENSION:
            raise ConfigError(
                f"vbench.dimensions: {dimension!r} is not a VBench dimension; allowed: {', '.join(SUITE_OF_DIMENSION)}"
            )
    if not dimensions:
        raise ConfigError("vbench.dimensions is empty; name at least one dimension, such as subject_consistency")
    return list(dict.fromkeys(SUITE_OF_DIMENSION[dimension] for dimension in dimensions))


def list_videos(
    suites: Sequence[str], *, samples: int, full_info: Path | None, short: Path | None, long: Path | None
) -> list[Video]:
    """All videos of some suites.

    Args:
        full_info: `VBench_full_info.json`; None takes that of an installed `vbench`.
        short: prompts to use instead of `full_info`: a folder of `{suite}.txt`, or one text file if there is one suite.
        long: prompts to sample instead of the short ones, line by line: a folder of `{suite}_longer.txt`, or one file.
    """
    videos: list[Video] = []
    for suite in suites:
        shorts = read_prompts(_suite_file(short, suite, "", suites)) if short else _prompts_of_json(full_info, suite)
        longs = read_prompts(_suite_file(long, suite, "_longer", suites)) if long else shorts
        if len(shorts) != len(longs):
            raise ConfigError(
                f"{suite}: {len(shorts)} short prompts, but {len(longs)} long ones; pass one long prompt for each"
            )
        videos += [
            Video(suite=suite, name=file_name(name, index), prompt=prompt, index=index)
            for name, prompt in zip(shorts, longs, strict=True)
            for index in range(samples)
        ]
    return videos


def file_name(prompt: str, index: int) -> str:
    """The name under which VBench looks for a prompt's video; it holds the prompt to the letter."""
    name = f"{prompt}-{index}.mp4"
    if "/" in prompt or "\0" in prompt or len(name.encode()) > _LONGEST_FILE_NAME:
        raise ConfigError(
            f"the prompt {prompt[:60]!r} cannot be a file name, as VBench needs; pass another short prompt"
        )
    return name


def _suite_file(path: Path, suite: str, suffix: str, suites: Sequence[str]) -> Path:
    if path.is_dir():
        return path / f"{suite}{suffix}.txt"
    if len(suites) > 1:
        raise ConfigError(
            f"{path} is one file, but there are {len(suites)} suites: pass a folder of {{suite}}{suffix}.txt"
        )
    return path


def _prompts_of_json(path: Path | None, suite: str) -> list[str]:
    path = path or _installed_full_info()
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        prompts = [entry["prompt_en"] for entry in entries if suite in entry["dimension"]]
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not VBench's list of prompts: {type(error).__name__} {error}") from None
    if not prompts:
        raise ConfigError(f"{path} has no prompts for {suite}; pass VBench's own list, or short_prompts")
    return list(dict.fromkeys(prompts))


def _installed_full_info() -> Path:
    package = importlib.util.find_spec("vbench")
    folders = package.submodule_search_locations if package else None
    for folder in folders or []:
        path = Path(folder) / "VBench_full_info.json"
        if path.is_file():
            return path
    raise ConfigError(
        "vbench is not installed, so its list of prompts is missing: set vbench.full_info to a VBench_full_info.json, "
        "or vbench.short_prompts to a folder of {suite}.txt files"
    )
