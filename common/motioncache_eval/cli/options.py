"""What the commands that sample read from the command line: `[--config FILE] [key=value ...]`."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motioncache.config import parse_overrides, plain_values, read_yaml, structured
from motioncache.errors import ConfigError, MotionCacheError
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.jobs import JobModel, describe_models, installed_models, recognise_model

HELP = ("-h", "--help")

DEFAULT_CONFIG = Path(__file__).parents[3] / "addconfig" / "config.yaml"
"""The settings that count where no model is named; an installed wheel has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The model that the command line chooses.

    Attributes:
        config: YAML file of the job; None for the defaults.
        overrides: `key=value` texts for the job and the command.
    """

    model: JobModel
    config: Path | None
    overrides: tuple[str, ...]

    def settings(self, own: type[Any]) -> Any:
        """The command's own settings, a dataclass of the type `own`."""
        mine = [text for text in self.overrides if _key(text) in own.__dataclass_fields__]
        return structured(own, parse_overrides(mine, [own]), where="overrides")

    def job(self, own: type[Any], *more: str) -> Any:
        """The job, whose settings are all but those of the command itself, and `more` texts `key=value`.

        A target without a preset chooses `forecast`, as in `enable_cache`, whatever preset the file names.
        """
        others = [text for text in self.overrides if _key(text) not in own.__dataclass_fields__]
        keys = {_key(text) for text in others}
        if "target_speedup" in keys and "preset" not in keys:
            others.append("preset=null")
        return self.model.read(self.config, [*others, *more])


def _key(text: str) -> str:
    return text.partition("=")[0]


def choose(arguments: Sequence[str]) -> Choice:
    """Find the model and the settings file that the command line asks for.

    The key `model` chooses: the name of a registered model stands for the small one that is shipped. Without it, the
    file of `--config` says which model it is for, and without that, `addconfig/config.yaml`.
    """
    config, overrides = take_config(arguments)
    named = [text.partition("=")[2] for text in overrides if text.startswith("model=")]
    if not named:
        config = config or _existing(DEFAULT_CONFIG)
        return Choice(model=_model_of(config), config=config, overrides=tuple(overrides))
    model = recognise_model(named[-1])
    config = config or _existing(model.config)
    if named[-1] in installed_models():
        if config is None:
            raise MotionCacheError(
                f"the small model of {named[-1]} is part of the repository and not of the installed package: pass "
                f"model= with {model.takes}"
            )
        overrides = [text for text in overrides if not text.startswith("model=")]
    return Choice(model=model, config=config, overrides=tuple(overrides))


def take_config(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Separate `--config FILE` from the `key=value` texts."""
    rest = [text for text in arguments if text not in HELP]
    if "--config" not in rest:
        return None, rest
    place = rest.index("--config")
    if place + 1 == len(rest):
        raise ConfigError("--config needs the path of a YAML file")
    return Path(rest[place + 1]), rest[:place] + rest[place + 2 :]


def show_help(command: str, does: str, own: type[Any], arguments: Sequence[str]) -> None:
    """Print what a command takes: its own settings, and those of the model that the arguments choose.

    An installed wheel has no model of its own to choose, and shows the settings of all.
    """
    print(f"usage: motioncache {command} [--config FILE.yaml] [key=value ...]\n\n{does}\n")
    print(f"model= takes {describe_models(installed_models())}.")
    print("-h model=NAME lists the keys of that one. Texts are taken to the letter.\n")
    print(f"Keys of {command}:\n{describe_keys(own)}")
    chooses = DEFAULT_CONFIG.is_file() or any(text.startswith(("model=", "--config")) for text in arguments)
    if not chooses:
        for name, model in installed_models().items():
            print(f"\nKeys of a job of {name}:\n{describe_keys(model.schema, without=own)}")
        return
    choice = choose(arguments)
    values = {} if choice.config is None else plain_values(read_yaml(choice.config), where="settings")
    print(f"\nKeys of the job, from {choice.config or 'the defaults'}:")
    print(describe_keys(choice.model.schema, values, without=own))


def show_parser_help(command: Callable[[list[str]], int]) -> None:
    """Print the help of a command that has an argument parser of its own."""
    with suppress(SystemExit):
        command(["-h"])


def _model_of(config: Path | None) -> JobModel:
    if config is None:
        raise MotionCacheError(f"no model is named: pass model= with {describe_models(installed_models())}")
    for model in installed_models().values():
        if model.config.resolve() == config.resolve():
            return model
    return recognise_model(str(read_yaml(config).get("model", "")))


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
