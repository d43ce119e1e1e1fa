"""`motioncache vbench`: sample VBench's prompts, with one process per device."""

from motioncache.errors import MotionCacheError
from motioncache_eval.cli.keys import describe_keys
from motioncache_eval.cli.options import HELP, take_config
from motioncache_eval.jobs import ModelCommand, installed_models, recognise_model


def main(arguments: list[str]) -> int:
    """Run the command of the model that the key `model` names, or of the only model that has one."""
    config, overrides = take_config(arguments)
    named = [text.partition("=")[2] for text in overrides if text.startswith("model=")]
    command = find_command("vbench", named[-1] if named else None)
    if named and named[-1] in installed_models():
        overrides = [text for text in overrides if not text.startswith("model=")]
    if set(HELP) & set(arguments):
        print(f"usage: motioncache vbench [--config FILE.yaml] [key=value ...]\n\n{__doc__}\n")
        print(f"Values come from the section vbench: of {config or command.config}.\n")
        print("\n".join(describe_keys(schema) for schema in command.schemas))
        return 0
    return command.run([str(config or command.config), *overrides])


def find_command(name: str, model: str | None) -> ModelCommand:
    """A command that only some models have."""
    if model is not None:
        commands = recognise_model(model).commands()
        if name not in commands:
            raise MotionCacheError(f"model={model} has no command {name}")
        return commands[name]
    having = [
        commands[name] for commands in (one.commands() for one in installed_models().values()) if name in commands
    ]
    if len(having) != 1:
        raise MotionCacheError(f"{len(having)} installed models have a command {name}: pass model=")
    return having[0]
