"""Configuration: frozen dataclasses that check themselves, read from YAML through OmegaConf's structured configs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from motioncache.errors import ConfigError
from motioncache.motion import Normalisation


class Distance(Enum):
    """What the step distance is averaged over."""

    per_chunk = "global"
    """One number for the chunk."""
    per_token = "token"
    """One number for each token; tokens of one latent frame share theirs."""


class PolicyConfig:
    """Base of the configs of policies; a model's package may bring its own."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCacheConfig(PolicyConfig):
    """The `exact` tier: chunk KV reuse alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceConfig(PolicyConfig):
    """What all policies share that accumulate a step distance.

    Args:
        threshold: something is due when its accumulated distance reaches this.
        distance: `global`, one step distance for the chunk, or `token`.
        coefficients: polynomial from relative change of the driving signal to distance, highest power first; empty
            takes the model's own from its table.
        fit_range: relative changes over which the polynomial was fitted, lowest and highest; empty means all.
        clamp_distance: keep the relative change inside the fit range and the distance at 0 or more. The published code
            adds whatever the polynomial gives, which far from its fit is a large negative number.
    """

    threshold: float = 0.1
    distance: Distance = Distance.per_chunk
    coefficients: tuple[float, ...] = ()
    fit_range: tuple[float, ...] = ()
    clamp_distance: bool = True

    def __post_init__(self) -> None:
        require_range("threshold", self.threshold, self.threshold >= 0, "0 or more")
        limits = self.fit_range
        ordered = len(limits) == 2 and 0 <= limits[0] < limits[1]
        require_range("fit_range", list(limits), not limits or ordered, "empty, or two numbers, the lower one first")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeaCacheConfig(DistanceConfig):
    """TeaCache: all chunks of a window are computed or reused together; see `DistanceConfig` for the rest.

    Args:
        warmup: last iteration of a window, counted from 0, that is computed in full whatever the distance.
        chunk_reuse: False computes chunks that are finished or have not started along with the others, as published.
    """

    warmup: int = 4
    chunk_reuse: bool = True

    def __post_init__(self) -> None:
        DistanceConfig.__post_init__(self)
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionCacheConfig(DistanceConfig):
    """MotionCache: decides token by token. The defaults are the published configuration; see `DistanceConfig` too.

    Args:
        warmup: last denoise step of a chunk, counted from 0, that is computed in full whatever the distance.
        chunk_phase_updates: updates of a chunk after the warm-up before motion weights set in; null stays with whole
            chunks to the end, which is FlowCache.
        normalisation: `max_rescale`, `mean` or `max`, see `motioncache.motion.motion_weight`.
        floor: lowest motion weight under `max_rescale`.
        temporal_vote: a position is computed in all latent frames of a chunk when it is due in more than this share of
            them; null decides every token by itself.
        minimum_update_ratio: a chunk of which fewer tokens are due is reused whole, its accumulated distance is kept.
        shared_mask: compute the tokens that are due in the first CFG branch in the others too; as published, every
            branch decides by itself.
        reference_quirks: behave as the published code does where that is known to be wrong (see the model's README).
    """

    warmup: int = 4
    chunk_phase_updates: int | None = 6
    normalisation: Normalisation = Normalisation.max_rescale
    floor: float = 0.6
    temporal_vote: float | None = 0.5
    minimum_update_ratio: float = 0.4
    shared_mask: bool = False
    reference_quirks: bool = False

    def __post_init__(self) -> None:
        DistanceConfig.__post_init__(self)
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")
        updates = self.chunk_phase_updates
        require_range("chunk_phase_updates", updates, updates is None or updates >= 0, "null, or 0 or more")
        require_range("floor", self.floor, 0 <= self.floor <= 1, "between 0 and 1")
        vote = self.temporal_vote
        require_range("temporal_vote", vote, vote is None or 0 <= vote < 1, "null, or at least 0 and less than 1")
        ratio = self.minimum_update_ratio
        require_range("minimum_update_ratio", ratio, 0 <= ratio <= 1, "between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastConfig(PolicyConfig):
    """Forecast: a plan made before sampling computes all chunks or none; velocities in between are forecast.

    Args:
        target_speedup: FLOPs of the video without a cache over those that it takes.
        calibration: a file that `python -m motioncache_eval.calibrate` wrote; null takes the one beside the presets.
        order: a velocity is forecast from so many that were computed; 1 repeats the last one, scaled.
    """

    target_speedup: float = 2.0
    calibration: str | None = None
    order: int = 2

    def __post_init__(self) -> None:
        require_range("target_speedup", self.target_speedup, self.target_speedup >= 1, "1 or more")
        require_range("order", self.order, self.order in (1, 2), "1 or 2")


class Schedule(Enum):
    """Which denoise steps of a budget are computed."""

    planned = "planned"
    """Those that keep the forecasts' expected error lowest."""
    even = "even"
    """Evenly spread ones."""


class Unit(Enum):
    """What a decision is made for."""

    window = "window"
    chunk = "chunk"
    """Each chunk by its own denoise step, whatever the others do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastAblationConfig(ForecastConfig):
    """Forecast with ingredients left out, to measure what each of them is worth.

    Args:
        schedule: `planned` as in `forecast`, or `even`.
        unit: `window` as in `forecast`, or `chunk`.
    """

    schedule: Schedule = Schedule.planned
    unit: Unit = Unit.window


Policies = Mapping[str, type[PolicyConfig]]
"""By the value of the key `policy` in a preset."""

POLICIES: Policies = {
    "none": NoCacheConfig,
    "teacache": TeaCacheConfig,
    "motioncache": MotionCacheConfig,
    "forecast": ForecastConfig,
    "forecast-ablation": ForecastAblationConfig,
}
"""Those of a model that has none of its own."""

_Config = TypeVar("_Config")


def structured(schema: type[_Config], values: Mapping[str, Any] | DictConfig, *, where: str) -> _Config:
    """Build a config dataclass from YAML values.

    Raises:
        ConfigError: for an unknown key, a wrong type or a value out of range; it names the field under `where`, the
            value, and what is allowed.
    """
    known = [field.name for field in fields(schema)]  # pyright: ignore[reportArgumentType]
    given: dict[str, Any] = _plain(values)
    for key in given:
        if key not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise ConfigError(f"{where}: unknown key {key!r}; known keys: {allowed}")
    given = {key: _enum_name(schema, key, value, where) for key, value in given.items()}
    merged = OmegaConf.structured(schema)
    for key, value in given.items():
        try:
            merged = OmegaConf.merge(merged, {key: value})
        except ValidationError as error:
            reason = _first_line(error).replace("'$VALUE' of type '$VALUE_TYPE'", repr(value))
            raise ConfigError(f"{where}.{key}: {value!r} has the wrong type: {reason}") from None
    built: dict[str, Any] = {key: getattr(merged, key) for key in known}
    built = {key: _to_python(value) for key, value in built.items()}
    try:
        return schema(**built)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


def parse_policy(values: Mapping[str, Any] | DictConfig, *, where: str, policies: Policies = POLICIES) -> PolicyConfig:
    """A policy's config from a mapping whose key `policy` names one of `policies`."""
    given = _plain(values)
    name = given.pop("policy", None)
    if name not in policies:
        raise ConfigError(f"{where}.policy: {name!r} is not a policy; allowed: {', '.join(sorted(policies))}")
    return structured(policies[name], given, where=where)


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


def load_config(path: Path | str, preset: str | None = None, policies: Policies = POLICIES) -> PolicyConfig:
    """Read one of `policies` from a YAML file.

    The file holds either one policy (a key `policy` and its fields), or `presets:`, a mapping from names to policies,
    and `preset:`, the name to take where `preset` is not given.
    """
    path = Path(path)
    loaded = read_yaml(path)
    if "presets" not in loaded:
        if preset is not None:
            raise ConfigError(f"{path} has no presets, so {preset!r} cannot be chosen from it")
        return parse_policy(loaded, where=str(path), policies=policies)
    presets = loaded["presets"]
    name = preset if preset is not None else loaded.get("preset")
    if name not in presets:
        available = ", ".join(str(key) for key in presets)
        raise ConfigError(f"unknown preset {name!r}; {path} has: {available}")
    return parse_policy(presets[name], where=f"{path}: presets.{name}", policies=policies)


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


def _plain(values: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    if not isinstance(values, DictConfig):
        return dict(values)
    try:
        return OmegaConf.to_container(values, resolve=True)  # pyright: ignore[reportReturnType]
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from None


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
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(cast("Sequence[Any]", value))
    return value


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


__all__ = [
    "POLICIES",
    "Distance",
    "DistanceConfig",
    "ForecastAblationConfig",
    "ForecastConfig",
    "MotionCacheConfig",
    "NoCacheConfig",
    "Policies",
    "PolicyConfig",
    "Schedule",
    "TeaCacheConfig",
    "Unit",
    "load_config",
    "parse_overrides",
    "parse_policy",
    "read_yaml",
    "require_range",
    "structured",
]
