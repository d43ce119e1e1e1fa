"""`motioncache generate`: make the videos of one or many prompts, each in a named file with a JSON of its figures.

Videos that are complete are not made again, so the same command goes on after an interrupt.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motioncache.errors import ConfigError
from motioncache.extras import require_extra
from motioncache_eval.cli.options import HELP, choose, show_help
from motioncache_eval.command import check_output_folder
from motioncache_eval.generate import (
    GenerateConfig,
    Video,
    claim_folder,
    list_videos,
    make_videos,
    missing_videos,
    settings_of,
)
from motioncache_eval.jobs import load_in_team, policy_of
from motioncache_eval.prompts import read_prompts
from motioncache_eval.team import join_team


def main(arguments: list[str]) -> int:
    """Check everything, and make what is missing."""
    if set(HELP) & set(arguments):
        show_help("generate", str(__doc__), GenerateConfig, arguments)
        return 0
    choice = choose(arguments)
    own = choice.settings(GenerateConfig)
    prompts = [] if own.prompts is None else read_prompts(Path(own.prompts))
    if prompts and any(text.startswith("prompt=") for text in choice.overrides):
        raise ConfigError("prompt and prompts are both given: pass one of the two")
    job = choice.job(GenerateConfig, *(f"prompt={prompt}" for prompt in prompts[:1]))
    names = None if own.names is None else read_prompts(Path(own.names))
    videos = list_videos(prompts or [job.prompt], names)
    policy = policy_of(choice.model.adapter(), job)
    require_extra("av", "writing videos")
    with join_team(own.parallel, job.device) as team:
        missing = team.decide(lambda: claim_missing(Path(own.output), settings_of(job, policy), videos))
        print(f"{len(videos)} videos, {len(missing)} to make in {own.output}", flush=True)
        if missing:
            print(f"loading {job.model}", flush=True)
            make_videos(load_in_team(choice.model, job, team), policy, missing, Path(own.output))
    return 0


def claim_missing(folder: Path, settings: dict[str, Any], videos: Sequence[Video]) -> list[Video]:
    """Make the folder, and list the videos that it has not."""
    check_output_folder(folder)
    claim_folder(folder, settings)
    return missing_videos(folder, videos)
