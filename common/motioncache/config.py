"""Configuration: frozen dataclasses that check themselves, read from YAML through OmegaConf's structured configs.

Values are taken to the letter: nothing is interpolated, so `${...}` in a prompt is a part of the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from motioncache.errors import ConfigError


class PolicyConfig:
    """Base of the configs of policies; a model's package may bring its own."""

    __slots__ = ()


_Config = TypeVar("_Config")


def structured(schema: type[_Config], values: Mapping[str, Any] | DictConfig, *, where: str) -> _Config:
    """Build a config dataclass from YAML values; texts and mappings are taken as they are.

    Raises:
        ConfigError: for an unknown key, a wrong type or a value out of range; it names the field under `where`, the
            value, and what is allowed.
    """
    names = [field.name for field in fields(schema)]  # pyright: ignore[reportArgumentType]
    chosen: dict[str, Any] = plain_values(values)
    for key in chosen:
        if key not in names:
            allowed = ", ".join(sorted(names)) or "none"
            raise ConfigError(f"{where}: unknown key {key!r}; known keys: {allowed}")
    chosen = {key: _enum_name(schema, key, value, where) for key, value in chosen.items()}
    merged, hints = OmegaConf.structured(schema), get_type_hints(schema)
    literal = {key: value for key, value in chosen.items() if _is_literal(hints[key], value)}
    for key, value in chosen.items():
        if key in literal:
            continue
        if "${" in str(value):  # OmegaConf would look it up
            raise ConfigError(f"{where}.{key}: {value!r} has the wrong type")
        try:
            merged = OmegaConf.merge(merged, {key: value})
        except ValidationError as error:
            reason = _first_line(error).replace("'$VALUE' of type '$VALUE_TYPE'", repr(value))
            raise ConfigError(f"{where}.{key}: {value!r} has the wrong type: {reason}") from None
    built: dict[str, Any] = {key: getattr(merged, key) for key in names}
    built = {key: _to_python(value) for key, value in (built | literal).items()}
    try:
        return schema(**built)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def read_yaml(path: Path) -> DictConfig:
    """Read a YAML file that holds a mapping."""
    if not path.is_file():
        raise ConfigError(f"there is no config file {path}")
    try:
        loaded = OmegaConf.load(path)
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
            raise ConfigError(f"{text!r} is not an override: write key=value")
        if hints.get(key) in (str, str | None):
            parsed[key] = None if value == "null" and hints[key] is not str else value
            continue
        try:
            parsed[key] = OmegaConf.to_container(OmegaConf.from_dotlist([text]))[key]  # pyright: ignore
        except (OmegaConfBaseException, ValueError, KeyError) as error:
            raise ConfigError(f"{text!r} cannot be read: {_first_line(error)}") from None
    return parsed


def require_range(name: str, value: object, holds: bool, allowed: str) -> None:
    """Refuse a knob of a policy that is out of range."""
    if not holds:
        raise ConfigError(f"{name}: {value!r} is out of range; allowed: {allowed}")


def plain_values(values: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    """The values of a YAML file as plain Python objects, to the letter."""
    if not isinstance(values, DictConfig):
        return dict(values)
    return OmegaConf.to_container(values, resolve=False)  # pyright: ignore[reportReturnType]


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
    if value not in members:
        raise ConfigError(f"{where}.{key}: {value!r} is not allowed; allowed: {', '.join(members)}")
    return members[value]


def _to_python(value: Any) -> Any:
    if isinstance(value, DictConfig):
        return plain_values(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(cast("Sequence[Any]", value))
    return value


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
