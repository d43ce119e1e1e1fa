"""Prompts from a text file."""

from pathlib import Path

from motioncache.errors import ConfigError


def read_prompts(path: Path) -> list[str]:
    """The prompts of a UTF-8 text file, one per line, without empty lines."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the prompts in {path} cannot be read: {error}") from None
    prompts = [line for line in lines if line]
    if not prompts:
        raise ConfigError(f"{path} holds no prompts; write one per line")
    return prompts
