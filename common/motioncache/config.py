"""Configuration: frozen dataclasses that check themselves, read from YAML through OmegaConf's structured configs.

Values are taken to the letter: nothing is interpolated, so `${...}` in a prompt is a part of the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from motioncache.errors import ConfigError
from motioncache.field_types import LONGEST_SHOWN, require_finite, require_type, require_types, shown


class KVStorage(Enum):
    """How keys and values are kept from one pass through the blocks to the next."""

    model = "model"
    """In the model's own dtype."""
    int8 = "int8"
    """With a scale for each token and head: half of bfloat16. A value is off by 1/254 of the largest of its head."""
    host = "host"
    """In the host's memory; the next layer's come over while a layer is computed. Nothing is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """Base of the configs of policies; a model's package may bring its own.

    Its `__post_init__` checks the types of all fields; a config that has its own calls that of its base first.

    Args:
        kv: how keys and values are kept: `model`, in the model's own dtype, `int8` or `host`.
        split_guidance: compute the CFG branches one after another, in half the memory for activations.
    """

    kv: KVStorage = KVStorage.model
    split_guidance: bool = False

    def __post_init__(self) -> None:
        require_types(self)

    @property
    def mixes_videos(self) -> bool:
        """Whether the decisions for one video of a batch depend on the others."""
        return False


_Config = TypeVar("_Config")


def structured(schema: type[_Config], values: object, *, where: str) -> _Config:
    """Build a config dataclass from YAML values; texts and mappings are taken as they are.

    Raises:
        ConfigError: for anything but a mapping, an unknown key, a wrong type or a value out of range; it names the
            field under `where`, the value, and what is allowed.
    """
    names = [field.name for field in fields(schema)]  # pyright: ignore[reportArgumentType]
    chosen = plain_values(values, where=where)
    for key in chosen:
        if key not in names:
            allowed = ", ".join(sorted(names)) or "none"
            raise ConfigError(f"{where}: unknown key {shown(key)}; known keys: {allowed}")
    empty, hints = _empty(schema), get_type_hints(schema)
    chosen = {key: _enum_name(schema, key, value, where) for key, value in chosen.items()}
    built = {
        key: value if _is_literal(hints[key], value) else _converted(empty, key, value, where)
        for key, value in chosen.items()
    }
    built = {key: _to_python(value) for key, value in built.items()}
    try:
        for key, value in built.items():
            require_type(key, value, hints[key])
            require_finite(key, value)
        return schema(**built)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def read_text(path: Path, *, missing: str) -> str:
    """Read a text file.

    Args:
        missing: what the error says if there is no such file.

    Raises:
        ConfigError: for a file that is missing, cannot be opened or holds no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(missing) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{shown(str(path))} cannot be read: {reason}") from None


def read_yaml(path: Path) -> DictConfig:
    """Read a YAML file that holds a mapping."""
    text = read_text(path, missing=f"there is no config file {path}")
    try:
        loaded = OmegaConf.load(StringIO(text))
    except Exception as error:  # the YAML parser's own errors have no common base that OmegaConf exports
        raise ConfigError(f"{path} is not valid YAML: {_first_line(error)}") from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} has to hold keys and values, not a list")
    return loaded


def parse_overrides(texts: Sequence[str], schemas: Sequence[type]) -> dict[str, Any]:
    """Read `key=value` texts; values are YAML, but for the text fields of `schemas`, which are taken to the letter."""
    hints = {key: hint for schema in schemas for key, hint in get_type_hints(schema).items()}
    parsed: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"{shown(text)} is not an override: write key=value")
        if hints.get(key) in (str, str | None):
            parsed[key] = None if value == "null" and hints[key] is not str else value
            continue
        try:
            parsed[key] = OmegaConf.to_container(OmegaConf.from_dotlist([text]))[key]  # pyright: ignore
        except Exception as error:  # see `read_yaml`
            raise ConfigError(f"{shown(text)} cannot be read: {_first_line(error)}") from None
    return parsed


def plain_values(values: object, *, where: str) -> dict[str, Any]:
    """The values of a mapping, as a YAML file holds it, as plain Python objects, to the letter.

    Raises:
        ConfigError: for anything but a mapping; it says `where` that is.
    """
    if isinstance(values, DictConfig):
        values = OmegaConf.to_container(values, resolve=False)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: {shown(values)} has the wrong type; allowed: keys and values")
    return dict(cast("Mapping[str, Any]", values))


@cache
def _empty(schema: type) -> DictConfig:
    """The defaults of a schema, which values are merged with for their conversion; merging copies them."""
    return OmegaConf.structured(schema)


def _is_literal(hint: Any, value: Any) -> bool:
    """Whether a value needs no conversion: a text for a text field, texts for one of texts, a mapping for a mapping."""
    if hint in (str, str | None):
        return isinstance(value, str)
    if hint == tuple[str, ...]:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in cast("Sequence[Any]", value))
    return isinstance(value, dict) and dict in (get_origin(hint), *map(get_origin, get_args(hint)))


def _enum_name(schema: type, key: str, value: Any, where: str) -> Any:
    """OmegaConf reads enums by member name; YAML files hold their values."""
    default = {field.name: field.default for field in fields(schema)}[key]
    if not isinstance(default, Enum) or isinstance(value, Enum):
        return value
    members = {str(member.value): member for member in type(default)}
    if not isinstance(value, str) or value not in members:
        raise ConfigError(f"{where}.{key}: {shown(value)} is not allowed; allowed: {', '.join(members)}")
    return members[value]


_TRUE_OR_FALSE = ("true", "false", "yes", "no", "on", "off", "y", "n", "0", "1")
"""Texts that stand for true or false; OmegaConf takes any number for one."""


def _converted(empty: DictConfig, key: str, value: Any, where: str) -> Any:
    """A YAML value, converted to the type of its field in `empty`."""
    try:
        if "${" in str(value) or value == "???":  # OmegaConf would look it up, or take it for a missing value
            raise ConfigError("it stands for another value")
        if isinstance(value, bytes):
            raise ConfigError("it is neither a text nor a number")
        converted = getattr(OmegaConf.merge(empty, {key: value}), key)
        if isinstance(converted, bool) and value not in (0, 1) and str(value).lower() not in _TRUE_OR_FALSE:
            raise ConfigError("it is neither true nor false")
    except Exception as error:  # OmegaConf raises errors of many kinds for the values that it cannot convert
        reason = _first_line(error).replace("'$VALUE' of type '$VALUE_TYPE'", shown(value))
        raise ConfigError(f"{where}.{key}: {shown(value)} has the wrong type: {reason}") from None
    return converted


def _to_python(value: Any) -> Any:
    if isinstance(value, DictConfig):
        return OmegaConf.to_container(value, resolve=False)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_to_python, cast("Sequence[Any]", value)))
    return value


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:LONGEST_SHOWN] if lines else type(error).__name__
