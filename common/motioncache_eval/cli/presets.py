"""`motioncache presets [MODEL]`: list the presets of the models, with what each sets."""

from dataclasses import fields
from typing import Any

from motioncache.config import plain_values, read_yaml
from motioncache.presets import parse_policy
from motioncache.registry import Adapter
from motioncache_eval.cli.keys import shown
from motioncache_eval.cli.options import HELP
from motioncache_eval.jobs import find_model, installed_models


def main(arguments: list[str]) -> int:
    """Print a table for each model."""
    if set(HELP) & set(arguments):
        print(f"usage: motioncache presets [MODEL ...]\n\n{__doc__}\nMODEL is one of: {', '.join(installed_models())}")
        return 0
    models = {name: find_model(name) for name in arguments} or installed_models()
    print("\n\n".join(describe_presets(name, model.adapter()) for name, model in models.items()))
    return 0


def describe_presets(model: str, adapter: Adapter) -> str:
    """The presets of one model, a line each; a star marks the one that counts where none is chosen."""
    path = adapter.presets()
    loaded = read_yaml(path)
    presets = plain_values(loaded.get("presets"), where=f"{path}: presets")
    width = max(map(len, map(str, presets)))
    lines = [f"{model}: {path}"]
    for name, values in presets.items():
        policy = parse_policy(values, where=f"{path}: presets.{name}", policies=adapter.policies)
        star = "*" if name == loaded.get("preset") else " "
        lines.append(f"{star} {name:{width}s}  {values['policy']:11s}  {changed_settings(policy)}".rstrip())
    return "\n".join([*lines, "* where no preset is chosen. Settings that are not shown have the policy's defaults."])


def changed_settings(policy: Any) -> str:
    """The settings that are not the policy's own defaults, or its defaults' first ones if all are."""
    values = {field.name: getattr(policy, field.name) for field in fields(policy)}
    changed = {name: value for name, value in values.items() if value != getattr(type(policy)(), name, None)}
    return ", ".join(f"{name}={shown(value)}" for name, value in changed.items())
