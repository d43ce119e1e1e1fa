"""Overrides of a benchmark's YAML on the command line: `count=2`, `settings.seed=7`, `methods.slow.preset=fast`."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from motioncache.config import parse_overrides, plain_values
from motioncache.errors import ConfigError
from motioncache.field_types import shown
from motioncache_eval.bench.config import BenchConfig, MethodConfig, SweepConfig, TuneConfig

_OPEN = ("policy", "knobs", "job")
"""Sections of a method whose keys are those of a policy, a baseline or the demo, which checks them."""


def apply_overrides(values: dict[str, Any], texts: Sequence[str], *, where: str) -> dict[str, Any]:
    """The values of a benchmark's YAML with `key=value` texts applied.

    Settings and texts are taken to the letter; other values are read as YAML.

    Args:
        where: what errors call the YAML.

    Raises:
        ConfigError: for an unknown key; the error lists the known ones.
    """
    changed = dict(values)
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"{shown(text)} is not an override: write key=value")
        *sections, last = _place(key, changed.get("methods"))
        section = changed
        for name in sections:
            inner = section.get(name)
            section[name] = {} if inner is None else plain_values(inner, where=f"{where}: {name}")
            section = section[name]
        section[last] = _read(sections, last, value)
    return changed


def _place(key: str, methods: Any) -> list[str]:
    """The names that lead to a key, from the top of the benchmark."""
    section, _, rest = key.partition(".")
    if section == "settings" and rest:
        return [section, rest]
    if section == "methods" and rest:
        return [section, *_place_in_methods(key, rest, list(methods) if isinstance(methods, dict) else [])]
    known = [*_names(BenchConfig), *(f"sweep.{name}" for name in _names(SweepConfig))]
    _require_known(key, key in known, [*known, "settings.KEY", "methods.NAME.KEY"])
    return key.split(".")


def _place_in_methods(key: str, rest: str, methods: Iterable[Any]) -> list[str]:
    """The method and its key. Names may have dots: the longest one that fits is meant."""
    names = [name for name in methods if isinstance(name, str)]
    fitting = [name for name in names if rest.startswith(f"{name}.")]
    _require_known(key, bool(fitting), [f"methods.{name}.KEY" for name in names])
    name = max(fitting, key=len)
    inner = rest[len(name) + 1 :]
    section, _, last = inner.partition(".")
    if section in _OPEN and last:
        return [name, section, last]
    known = [*_names(MethodConfig), *(f"tune.{field}" for field in _names(TuneConfig))]
    inner_keys = [*known, *(f"{section}.KEY" for section in _OPEN)]
    _require_known(key, inner in known, [f"methods.{name}.{one}" for one in inner_keys])
    return [name, *inner.split(".")]


def _read(sections: Sequence[str], last: str, value: str) -> Any:
    """The value of a key in these sections."""
    if sections == ["settings"]:
        return value  # the demo knows which of its settings are texts
    if len(sections) == 3 and sections[-1] in _OPEN:
        return parse_overrides([f"value={value}"], [])["value"]
    schemas = {(): BenchConfig, ("sweep",): SweepConfig}
    schema = TuneConfig if len(sections) == 3 else schemas.get(tuple(sections), MethodConfig)
    return parse_overrides([f"{last}={value}"], [schema])[last]


def _require_known(key: str, known: bool, keys: Iterable[str]) -> None:
    if not known:
        raise ConfigError(f"unknown key {shown(key)}; known keys: {', '.join(keys) or 'none'}")


def _names(schema: type) -> list[str]:
    return [field.name for field in fields(schema)]
