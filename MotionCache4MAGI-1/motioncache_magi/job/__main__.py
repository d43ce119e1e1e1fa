"""Command line of the demo: `python -m motioncache_magi.job CONFIG.yaml [key=value ...]`."""

import sys
from functools import partial
from pathlib import Path

from motioncache_eval.command import run_with_config
from motioncache_eval.demo import Demo, check_demo, run_demo
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.job.config import load_magi_job
from motioncache_magi.job.sample import decode, load_pipeline, quiet_libraries, run_pipeline, warm_up


def main(arguments: list[str] | None = None) -> int:
    quiet_libraries()
    return run_with_config(run, __doc__, arguments)


def run(config: Path, overrides: list[str]) -> int:
    """Check everything, load the model, and write the results to a new folder."""
    job = load_magi_job(config, overrides)
    policy = check_demo(job, MagiAdapter())
    print(f"loading {job.model}")
    pipeline, job = load_pipeline(job)
    return run_demo(
        Demo(
            settings=job,
            policy=policy,
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
