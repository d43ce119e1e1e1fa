"""What the command lines of this model share: a model with prompts."""

import argparse
from pathlib import Path

from diffusers import SkyReelsV2DiffusionForcingPipeline

from motioncache_eval.prompts import read_prompts
from motioncache_skyreels.job.config import JobConfig, load_job
from motioncache_skyreels.job.load import check_size, load_pipeline

DEFAULT_CONFIG = Path(__file__).parents[2] / "addconfig" / "config.yaml"
"""The demo's configuration in the repository; an installed wheel has none."""


def model_parser(prog: str, doc: str | None) -> argparse.ArgumentParser:
    """The options of a command that samples some prompts with a model."""
    parser = argparse.ArgumentParser(prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or hub id")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="sizes, steps, device, dtype: see addconfig")
    default = DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
    parser.add_argument("--config", type=Path, default=default, help="YAML file with the other settings")
    parser.add_argument("--prompts", type=Path, help="text file with one prompt a line (default: the config's prompt)")
    return parser


def load_model(options: argparse.Namespace) -> tuple[SkyReelsV2DiffusionForcingPipeline, JobConfig, list[str]]:
    """The pipeline, the job and the prompts that the options of a `model_parser` name."""
    prompts = read_prompts(options.prompts) if options.prompts else []
    overrides = [*options.overrides, f"model={options.model}"]
    if prompts:
        overrides.append(f"prompt={prompts[0]}")
    job = load_job(options.config, overrides)
    pipeline = load_pipeline(job)
    check_size(pipeline, job)
    return pipeline, job, prompts or [job.prompt]
