from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from motioncache import ConfigError, ForecastConfig, MotionCacheConfig, NoCacheConfig, load_config
from motioncache.config import parse_overrides, read_yaml, structured
from motioncache.motion import Normalisation
from motioncache.policies.distance import Distance
from motioncache.presets import parse_policy


def test_yaml_values_become_a_checked_dataclass() -> None:
    values = {"policy": "motioncache", "distance": "token", "normalisation": "mean", "temporal_vote": None, "warmup": 2}
    config = parse_policy(values, where="here")
    assert config == MotionCacheConfig(
        distance=Distance.per_token, normalisation=Normalisation.mean, temporal_vote=None, warmup=2
    )
    assert parse_policy({"policy": "none"}, where="here") == NoCacheConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "motioncache", "treshold": 0.1}, r"here: unknown key 'treshold'; known keys: .*threshold"),
        ({"policy": "motioncache", "warmup": "a"}, r"here\.warmup: 'a' has the wrong type"),
        ({"policy": "motioncache", "warmup": 4.5}, r"here\.warmup: 4\.5 has the wrong type"),
        ({"policy": "motioncache", "warmup": -1}, r"here\.warmup: -1 is out of range; allowed: 0 or more"),
        ({"policy": "motioncache", "threshold": float("nan")}, r"here\.threshold: nan is out of range"),
        ({"policy": "motioncache", "floor": 1.5}, r"here\.floor: 1\.5 is out of range; allowed: between 0 and 1"),
        ({"policy": "motioncache", "temporal_vote": 1.0}, r"here\.temporal_vote: 1\.0 is out of range"),
        ({"policy": "motioncache", "minimum_update_ratio": 2}, r"here\.minimum_update_ratio: 2\.0 is out of range"),
        (
            {"policy": "motioncache", "distance": "glob"},
            r"here\.distance: 'glob' is not allowed; allowed: global, token",
        ),
        ({"policy": "motioncache", "coefficients": ["x"]}, r"here\.coefficients: .* has the wrong type"),
        ({"policy": "motioncache", "fit_range": [2, 1]}, r"here\.fit_range: \[2\.0, 1\.0\] is out of range"),
        ({"policy": "motioncache", "clamp_distance": "maybe"}, r"here\.clamp_distance: 'maybe' has the wrong type"),
        ({"policy": "none", "warmup": 1}, r"here: unknown key 'warmup'; known keys: kv, split_guidance"),
        (
            {"policy": "teacup"},
            r"here\.policy: 'teacup' is not a policy; allowed: forecast, motioncache, none, tea",
        ),
        ({"warmup": 1}, r"here\.policy: None is not a policy"),
    ],
)
def test_an_error_names_the_field_the_value_and_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_policy(values, where="here")


def test_the_dataclass_checks_itself_too() -> None:
    with pytest.raises(ConfigError, match=r"floor: 2 is out of range; allowed: between 0 and 1"):
        MotionCacheConfig(floor=2)
    assert MotionCacheConfig(floor=1, coefficients=(1, 0.5), fit_range=(0, 1)).floor == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"warmup": True}, "warmup: True has the wrong type; allowed: a whole number"),
    ({"warmup": 10**400}, r"warmup: 10+\.\.\. is out of range; allowed: finite numbers"),
    ({"threshold": float("inf")}, "threshold: inf is out of range; allowed: finite numbers"),
    ({"temporal_vote": "0.5"}, "temporal_vote: '0.5' has the wrong type; allowed: a number, or null"),
    ({"clamp_distance": 1}, "clamp_distance: 1 has the wrong type; allowed: true or false"),
    ({"distance": "abc"}, r"distance: 'abc' has the wrong type; allowed: Distance\.per_chunk, Distance\.per_token"),
    ({"coefficients": {}}, "coefficients: {} has the wrong type; allowed: a tuple, of which each item is a number"),
    ({"fit_range": (0, float("nan"))}, r"fit_range: \(0, nan\) is out of range; allowed: finite numbers"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_constructor_checks_the_types_of_its_fields(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        MotionCacheConfig(**values)


@pytest.mark.parametrize("target", ["abc", (1, "a"), True, None, float("nan")])
def test_forecast_has_the_types_of_its_hints(target: Any) -> None:
    with pytest.raises(ConfigError, match=r"^target_speedup: "):
        ForecastConfig(target_speedup=target)
    with pytest.raises(ConfigError, match="calibration: '' is out of range; allowed: null, auto, or a path"):
        ForecastConfig(calibration="")


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_one_key_switches_between_presets(tmp_path: Path) -> None:
    text = "presets: {exact: {policy: none}, slow: {policy: motioncache, threshold: 0.3}}\n"
    assert load_config(write(tmp_path, text + "preset: exact")) == NoCacheConfig()
    assert load_config(write(tmp_path, text + "preset: slow")) == MotionCacheConfig(threshold=0.3)
    assert load_config(tmp_path / "config.yaml", "exact") == NoCacheConfig()


def test_a_file_may_hold_one_policy_alone(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "{policy: motioncache, warmup: 7}")) == MotionCacheConfig(warmup=7)
    with pytest.raises(ConfigError, match="has no presets, so 'slow' cannot be chosen"):
        load_config(tmp_path / "config.yaml", "slow")


def test_an_unknown_preset_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "presets: {exact: {policy: none}}\npreset: exact\n")
    with pytest.raises(ConfigError, match=r"unknown preset 'slw'; .* has: exact"):
        load_config(path, "slw")


DAMAGED = [
    ("a: [", "not valid YAML"),
    ("- 1", "keys and values"),
    ("[" * 3000, "not valid YAML"),
    ("presets: null\npreset: slow", "presets: None has the wrong type; allowed: keys and values"),
    ("presets: [slow]\npreset: slow", r"presets: \['slow'\] has the wrong type; allowed: keys and values"),
    ("presets: {slow: 5}\npreset: slow", r"presets\.slow: 5 has the wrong type; allowed: keys and values"),
    ("presets: {slow: {policy: none}}\npreset: {}", "unknown preset {}; .* has: slow"),
    ("policy: [none]", r"policy: \['none'\] is not a policy"),
    ("{policy: motioncache, threshold: 1e999}", "threshold: inf is out of range; allowed: finite numbers"),
    ("{policy: motioncache, warmup: {a: 1}}", "warmup: {'a': 1} has the wrong type"),
]


@pytest.mark.parametrize(("text", "message"), DAMAGED)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"policy: \xff")
    for unreadable, reason in ((path, "codec"), (tmp_path, "Is a directory"), ("a" * 5000, "too long"), ("\0", "null")):
        with pytest.raises(ConfigError, match=f"cannot be read: .*{reason}"):
            load_config(unreadable)
    refused = PermissionError(13, "Permission denied")
    with patch.object(Path, "read_text", side_effect=refused), pytest.raises(ConfigError, match="Permission denied"):
        load_config(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no config file"):
        load_config(tmp_path / "none.yaml")


def test_overrides_are_yaml_except_for_text_fields(tmp_path: Path) -> None:
    class Schema:
        prompt: str
        path: str | None
        size: int

    texts = ["prompt=a cat: [dog] = x", "path=null", "size=3", "other=[1, 2]"]
    assert parse_overrides(texts, [Schema]) == {"prompt": "a cat: [dog] = x", "path": None, "size": 3, "other": [1, 2]}
    with pytest.raises(ConfigError, match="'size' is not an override: write key=value"):
        parse_overrides(["size"], [Schema])


@pytest.mark.parametrize(
    "value", ['"', "[", "9" * 5000, "${", "!!python/object:a", "1e999", "[1]", "{a: 1}", "", "true"]
)
def test_an_override_of_the_wrong_kind_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]{1,999}$"):
        structured(Settings, parse_overrides([f"steps={value}"], [Settings]), where="here")


@dataclass(frozen=True, kw_only=True)
class Settings:
    prompt: str = ""
    output: str | None = None
    steps: int = 0
    names: tuple[str, ...] = ()
    knobs: dict[str, Any] = field(default_factory=dict)


TEXTS = ["a ${b}", "${oc.env:HOME}", "???", "C:\\new\\${x}", "a: b", "[1, 2]", "null and void", " spaces ", "''"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_taken_to_the_letter(text: str, tmp_path: Path) -> None:
    overrides = parse_overrides([f"prompt={text}", f"output={text}"], [Settings])
    made = structured(Settings, overrides, where="here")
    assert (made.prompt, made.output) == (text, text)
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"prompt": text, "names": [text], "knobs": {"a": text}}))
    made = structured(Settings, read_yaml(path), where="here")
    assert (made.prompt, made.names, made.knobs) == (text, (text,), {"a": text})


def test_a_number_cannot_be_read_from_the_environment() -> None:
    overrides = parse_overrides(["steps=${oc.env:HOME}"], [Settings])
    with pytest.raises(ConfigError, match=r"here\.steps: '\$\{oc\.env:HOME\}' has the wrong type"):
        structured(Settings, overrides, where="here")
