"""Prompts from a text file."""

import re
from pathlib import Path

from motioncache.errors import ConfigError
from motioncache.field_types import shown

_LARGEST = 2**26
"""Bytes of a file of prompts; VBench's own has 0.1 MB."""


def read_prompts(path: Path) -> list[str]:
    """The prompts of a UTF-8 text file, one per line, without empty lines and the spaces around a prompt.

    A line ends with a line feed, or a carriage return and a line feed; nothing else splits a prompt.
    """
    prompts = [line.strip() for line in re.split(r"\r?\n", _read(path))]
    for number, prompt in enumerate(prompts, start=1):
        if "\0" in prompt:
            raise ConfigError(f"line {number} of the prompts in {path} holds a NUL character: save the file in UTF-8")
    prompts = [prompt for prompt in prompts if prompt]
    if not prompts:
        raise ConfigError(f"{path} holds no prompts; write one per line")
    return prompts


def _read(path: Path) -> str:
    """The text of a file, without the byte order mark that some editors write first."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ConfigError(f"{path} is larger than {_LARGEST >> 20} MiB, and no file of prompts")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the prompts in {path} cannot be read: {error}; save the file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"the prompts in {shown(str(path))} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the path
        raise ConfigError(f"the prompts in {shown(str(path))} cannot be read: {error}") from None
