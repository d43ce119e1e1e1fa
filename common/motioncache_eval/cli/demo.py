"""`motioncache demo`: one prompt with the chosen preset, without a cache, and at the same cost with `forecast`."""

import shlex
from pathlib import Path

from motioncache_eval.cli.options import HELP, choose, show_help
from motioncache_eval.command import check_output_folder
from motioncache_eval.demo import DemoConfig, check_packages, run_demo
from motioncache_eval.jobs import load_in_team, policy_of
from motioncache_eval.team import join_team


def main(arguments: list[str]) -> int:
    """Check everything, load the model, and write the results to a new folder."""
    if set(HELP) & set(arguments):
        show_help("demo", str(__doc__), DemoConfig, arguments)
        return 0
    choice = choose(arguments)
    settings, job = choice.settings(DemoConfig), choice.job(DemoConfig)
    policy = policy_of(choice.model.adapter(), job)
    check_packages()
    check_output_folder(Path(job.output))
    with join_team(settings.parallel, job.device) as team:
        print(f"loading {job.model}", flush=True)
        command = shlex.join([*team.command, "demo", *arguments])
        return run_demo(load_in_team(choice.model, job, team), policy, settings, command=command)
