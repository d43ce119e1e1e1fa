"""Presets: policies by name, read from YAML files."""

from collections.abc import Mapping
from pathlib import Path

from motioncache.config import PolicyConfig, plain_values, read_yaml, structured
from motioncache.errors import ConfigError
from motioncache.field_types import shown
from motioncache.forecast.budget import ForecastConfig
from motioncache.policies.motioncache import MotionCacheConfig
from motioncache.policies.none import NoCacheConfig
from motioncache.policies.teacache import TeaCacheConfig

Policies = Mapping[str, type[PolicyConfig]]
"""The config classes that a preset may choose from, by the value of its key `policy`."""

POLICIES: Policies = {
    "none": NoCacheConfig,
    "teacache": TeaCacheConfig,
    "motioncache": MotionCacheConfig,
    "forecast": ForecastConfig,
}
"""The policies of a model that has none of its own."""


RENAMED = {
    "paper-slow": "'slow'",
    "paper-fast": "'fast'",
    "turbo": "'forecast', with target_speedup=6 (on MAGI-1: 3.5)",
}
"""Presets of earlier versions, and what to write instead."""


def parse_policy(values: object, *, where: str, policies: Policies = POLICIES) -> PolicyConfig:
    """A policy's config from a mapping whose key `policy` names one of `policies`."""
    fields = plain_values(values, where=where)
    name = fields.pop("policy", None)
    if not isinstance(name, str) or name not in policies:
        raise ConfigError(f"{where}.policy: {shown(name)} is not a policy; allowed: {', '.join(sorted(policies))}")
    return structured(policies[name], fields, where=where)


def load_config(path: Path | str, preset: str | None = None, policies: Policies = POLICIES) -> PolicyConfig:
    """Read one of `policies` from a YAML file.

    The file holds either one policy (a key `policy` and its fields), or `presets:`, a mapping from names to policies,
    and `preset:`, the name to take where `preset` is not given.
    """
    path = Path(path)
    loaded = plain_values(read_yaml(path), where=str(path))
    if "presets" not in loaded:
        if preset is not None:
            raise ConfigError(f"{path} has no presets, so {shown(preset)} cannot be chosen from it")
        return parse_policy(loaded, where=str(path), policies=policies)
    presets = plain_values(loaded["presets"], where=f"{path}: presets")
    name = preset if preset is not None else loaded.get("preset")
    if not isinstance(name, str | int | float) or name not in presets:
        available = ", ".join(str(key) for key in presets)
        if isinstance(name, str) and name in RENAMED:
            raise ConfigError(f"the preset {name!r} is now called {RENAMED[name]}; {path} has: {available}")
        raise ConfigError(f"unknown preset {shown(name)}; {path} has: {available}")
    return parse_policy(presets[name], where=f"{path}: presets.{name}", policies=policies)
