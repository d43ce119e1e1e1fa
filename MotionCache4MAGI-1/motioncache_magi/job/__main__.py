"""Command line of the main job: `python -m motioncache_magi.job CONFIG.yaml [key=value ...]`."""

import sys
from functools import partial
from pathlib import Path

from motioncache.registry import resolve_preset
from motioncache_eval.command import run_command, show_usage
from motioncache_eval.main_job import MainJob, check_output, run_main_job
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.job.config import MagiJobConfig, load_magi_job
from motioncache_magi.job.sample import decode, load_pipeline, quiet_libraries, run_pipeline, warm_up


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        return show_usage(__doc__)
    quiet_libraries()
    return run_command(lambda: run(load_magi_job(Path(arguments[0]), arguments[1:])))


def run(job: MagiJobConfig) -> int:
    """Check everything, load the model, and produce the results in a new folder."""
    chosen = resolve_preset(MagiAdapter(), job.preset)
    check_output(Path(job.output))
    print(f"loading {job.model}")
    pipeline, job = load_pipeline(job)
    return run_main_job(
        MainJob(
            settings=job,
            policy=chosen,
            pipeline=pipeline,
            call=partial(run_pipeline, pipeline, job),
            warm_up=partial(warm_up, pipeline, job),
            decode=partial(decode, pipeline, job),
            progress=pipeline.set_progress_bar_config,
            branch=pipeline.branch,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
