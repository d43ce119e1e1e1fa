"""What the settings of a dataclass mean, and their table in the help of a command."""

import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

_ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*)$")


def meanings(schema: type) -> dict[str, str]:
    """The meaning of each setting, from the section `Args:` of a dataclass's docstring."""
    lines = inspect.getdoc(schema) or ""
    _, _, section = lines.partition("\nArgs:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.startswith(" " * 8):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif line.strip():
            break
    return found


def describe_keys(schema: Any, defaults: Mapping[str, Any] | None = None, without: Any = None) -> str:
    """The settings of a dataclass, each with its default, its type and its meaning.

    Args:
        defaults: values in place of the dataclass's own defaults.
        without: a dataclass whose settings are left out.
    """
    explained, hints = meanings(schema), get_type_hints(schema)
    hidden = set() if without is None else {field.name for field in fields(without)}
    lines: list[str] = []
    for field in (field for field in fields(schema) if field.name not in hidden):
        default = (defaults or {}).get(field.name, _default(field))
        lines.append(f"  {field.name}={shown(default)}  ({_type(hints[field.name])})")
        lines += textwrap.wrap(explained.get(field.name, ""), 96, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def shown(value: Any) -> str:
    """A value as YAML has it."""
    if isinstance(value, Enum):
        value = value.value
    return value if isinstance(value, str) else json.dumps(value)


def _type(hint: Any) -> str:
    """A type hint as YAML's users call it."""
    arguments = get_args(hint)
    if type(None) in arguments:
        return f"{_type(arguments[0])}, or null"
    if get_origin(hint) is tuple:
        return f"list of {_type(arguments[0])}"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(str(member.value) for member in hint)
    return words.get(hint, "mapping" if get_origin(hint) is dict else "any value")
