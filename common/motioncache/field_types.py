"""Checks the fields of a config against their type hints."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from motioncache.errors import ConfigError

LONGEST_SHOWN = 200
"""No error shows more characters of a value."""

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
}


def require_types(config: Any) -> None:
    """Refuse a dataclass if one of its fields does not have the type of its hint, or is not finite."""
    schema = cast("type[Any]", type(config))
    hints = get_type_hints(schema)
    for field in fields(schema):
        require_type(field.name, getattr(config, field.name), hints[field.name])
        require_finite(field.name, getattr(config, field.name))


def require_type(name: str, value: object, hint: Any) -> None:
    """Refuse a value that does not have the type of its field.

    A whole number will do for a float; true and false are no numbers.
    """
    if not _has_type(value, hint):
        raise ConfigError(f"{name}: {shown(value)} has the wrong type; allowed: {_in_words(hint)}")


def require_finite(name: str, value: object) -> None:
    """Refuse a number that does not lie within the range of a float, which infinity and NaN do not."""
    require_range(name, value, _is_finite(value), "finite numbers")


def require_range(name: str, value: object, holds: bool, allowed: str) -> None:
    """Refuse a knob of a policy that is out of range."""
    if not holds:
        raise ConfigError(f"{name}: {shown(value)} is out of range; allowed: {allowed}")


def shown(value: object) -> str:
    """A value as errors show it: on one line that is not too long."""
    try:
        text = " ".join(repr(value).splitlines())
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or lists that are nested as deeply
        return f"something of type {type(value).__name__} that is too long to show"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _has_type(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_has_type(value, one) for one in arguments)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    if origin is tuple and arguments[-1] is Ellipsis:
        return isinstance(value, tuple) and all(
            _has_type(item, arguments[0]) for item in cast("Sequence[object]", value)
        )
    return isinstance(value, origin or hint)


def _is_finite(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_finite, cast("Sequence[object]", value)))
    return not isinstance(value, int | float) or abs(value) <= sys.float_info.max


def _in_words(hint: Any) -> str:
    """A type hint in words, `a number, or null`."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return ", or ".join(map(_in_words, arguments))
    if get_origin(hint) is tuple and arguments[-1] is Ellipsis:
        return f"a tuple, of which each item is {_in_words(arguments[0])}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(map(str, hint))
    return _WORDS.get(hint, str(cast("object", hint)))
