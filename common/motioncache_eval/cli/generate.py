"""`motioncache generate`: make the videos of one or many prompts, each in a named file with a JSON of its figures.

Videos that are complete are not made again, so the same command goes on after an interrupt.
"""

from pathlib import Path

from motioncache.errors import ConfigError
from motioncache.extras import require_extra
from motioncache_eval.cli.options import HELP, choose, show_help
from motioncache_eval.command import check_output_folder
from motioncache_eval.generate import (
    GenerateConfig,
    claim_folder,
    list_videos,
    make_videos,
    missing_videos,
    settings_of,
)
from motioncache_eval.jobs import policy_of
from motioncache_eval.prompts import read_prompts


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
    folder = Path(own.output)
    check_output_folder(folder)
    claim_folder(folder, settings_of(job, policy))
    missing = missing_videos(folder, videos)
    print(f"{len(videos)} videos, {len(missing)} to make in {folder}", flush=True)
    if missing:
        print(f"loading {job.model}", flush=True)
        make_videos(choice.model.load(job), policy, missing, folder)
    return 0
