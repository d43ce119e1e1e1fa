"""Command line of the demo: `python -m motioncache_skyreels.job CONFIG.yaml [key=value ...]`."""

import sys
from functools import partial
from pathlib import Path

from motioncache.registry import find_adapter
from motioncache_eval.command import run_with_config
from motioncache_eval.demo import Demo, check_demo, run_demo
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.cli import quiet_libraries
from motioncache_skyreels.job.config import load_job
from motioncache_skyreels.job.load import check_size, load_pipeline
from motioncache_skyreels.job.sample import decode, run_pipeline, warm_up
from motioncache_skyreels.window import BRANCHES


def main(arguments: list[str] | None = None) -> int:
    quiet_libraries()
    return run_with_config(run, __doc__, arguments)


def run(config: Path, overrides: list[str]) -> int:
    """Check everything, load the model, and write the results to a new folder."""
    job = load_job(config, overrides)
    policy = check_demo(job, SkyReelsAdapter())
    print(f"loading {job.model}")
    pipeline = load_pipeline(job)
    check_size(pipeline, job)
    find_adapter(pipeline).hook(pipeline, policy).undo()  # refuse what cannot be served before any work is done
    return run_demo(
        Demo(
            settings=job,
            policy=policy,
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
