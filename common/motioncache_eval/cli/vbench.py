"""`motioncache vbench`: sample VBench's prompts with several presets, with one process per device, and score them.

Videos that are whole are not made again, so the same command goes on after an interrupt, and after any other end."""

from pathlib import Path

from motioncache.config import plain_values, read_yaml
from motioncache.errors import ConfigError
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.cli.options import HELP, choose, take_config
from motioncache_eval.jobs import JobModel, describe_models, find_model, installed_models, recognise_model
from motioncache_eval.vbench.config import INSTEAD, VBenchConfig
from motioncache_eval.vbench.dry_run import describe_plan
from motioncache_eval.vbench.package import find_python
from motioncache_eval.vbench.plan import make_plan
from motioncache_eval.vbench.run import sample_videos
from motioncache_eval.vbench.scoring import score_videos


def main(arguments: list[str]) -> int:
    """Sample with the model that is named first, that `model=` or the file names, or the one that counts without."""
    config, overrides = take_config(arguments)
    model, overrides = choose_model(config, overrides)
    config = config or model.adapter().presets()
    if set(HELP) & set(arguments):
        show_help(model, config)
        return 0
    plan = make_plan(model, config, overrides)
    if plan.settings.dry_run:
        print(describe_plan(plan))
        return 0
    if plan.settings.score:
        find_python()
    status = sample_videos(plan, [name_of(model), str(config), *overrides])
    return score_videos(plan) if plan.settings.score is not False and status == 0 else status


def choose_model(config: Path | None, overrides: list[str]) -> tuple[JobModel, list[str]]:
    """The model, and the overrides that are left."""
    first = next((text for text in overrides if "=" not in text), None)
    if first is not None:
        return find_model(first), [text for text in overrides if text != first]
    named = [text.partition("=")[2] for text in overrides if text.startswith("model=")]
    if named and named[-1] in installed_models():
        return find_model(named[-1]), [text for text in overrides if not text.startswith("model=")]
    if named:
        return recognise_model(named[-1]), overrides
    if config is None:
        return choose([]).model, overrides
    section = plain_values(read_yaml(config), where=str(config)).get("vbench")
    if not isinstance(section, dict):
        raise ConfigError(f"{config} has no section vbench: add one, as in the file that is shipped")
    return recognise_model(str(section.get("model", ""))), overrides


def name_of(model: JobModel) -> str:
    """The name that a model is registered under."""
    return next(name for name, one in installed_models().items() if type(one) is type(model))


def show_help(model: JobModel, config: Path) -> None:
    """Print the keys of the command, and those of the model's job."""
    values = plain_values(read_yaml(config), where=str(config)).get("vbench", {})
    print(f"usage: motioncache vbench [MODEL] [--config FILE.yaml] [key=value ...]\n\n{__doc__}\n")
    print(f"MODEL is one of: {', '.join(installed_models())}. model= takes {describe_models(installed_models())}.\n")
    print(f"Keys of vbench, from the section vbench: of {config}:\n{describe_keys(VBenchConfig, values)}\n")
    print(f"Keys of the job of {name_of(model)}, but {', '.join(INSTEAD)}:")
    print(describe_keys(model.schema, values, without=VBenchConfig))
