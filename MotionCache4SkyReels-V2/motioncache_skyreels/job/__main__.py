"""Command line of the main job: `python -m motioncache_skyreels.job CONFIG.yaml [key=value ...]`."""

import sys
from functools import partial
from pathlib import Path

from motioncache.registry import find_adapter, resolve_preset
from motioncache_eval.command import show_usage
from motioncache_eval.main_job import MainJob, check_output, run_main_job
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cli import run_command
from motioncache_skyreels.job.config import JobConfig, load_job
from motioncache_skyreels.job.load import check_size, load_pipeline
from motioncache_skyreels.job.sample import decode, run_pipeline, warm_up
from motioncache_skyreels.window import BRANCHES


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        return show_usage(__doc__)
    return run_command(lambda: run(load_job(Path(arguments[0]), arguments[1:])))


def run(job: JobConfig) -> int:
    """Check everything, load the model, and produce the results in a new folder."""
    chosen = resolve_preset(SkyReelsAdapter(), job.preset)
    check_output(Path(job.output))
    print(f"loading {job.model}")
    pipeline = load_pipeline(job)
    check_size(pipeline, job)
    find_adapter(pipeline).hook(pipeline, chosen).undo()  # refuse what cannot be served before any work is done
    return run_main_job(
        MainJob(
            settings=job,
            policy=chosen,
            pipeline=pipeline,
            call=partial(run_pipeline, pipeline, job),
            warm_up=partial(warm_up, pipeline, job),
            decode=partial(decode, pipeline),
            progress=pipeline.set_progress_bar_config,
            branch=BRANCHES[0],
        )
    )


if __name__ == "__main__":
    sys.exit(main())
