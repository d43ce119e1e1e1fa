"""Nonsense in policies, calibrations and presets files: what is accepted makes sense, and all else is a ConfigError."""

import json
import math
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from motioncache import MotionCacheConfig, NoCacheConfig, load_config
from motioncache.config import PolicyConfig
from motioncache.errors import ConfigError
from motioncache.forecast.calibration import Calibration
from motioncache.presets import POLICIES, parse_policy
from motioncache_magi.cache.adapter import POLICIES as MAGI_POLICIES

from ..fuzzing import HUGE, IN_JSON, NONSENSE, ROUNDS, made_or_none

BOTH = [*POLICIES.values(), *(config for config in MAGI_POLICIES.values() if config not in POLICIES.values())]
FIELDS = [(config, field.name) for config in BOTH for field in fields(config)]  # pyright: ignore


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def is_share(value: Any) -> bool:
    return 0 <= value <= 1


TYPES: dict[Any, Callable[[Any], bool]] = {
    int: lambda value: is_number(value) and isinstance(value, int) and abs(value) < HUGE,
    float: lambda value: is_number(value) and abs(value) < HUGE,
    bool: lambda value: value is True or value is False,
    str: lambda value: isinstance(value, str),
    type(None): lambda value: value is None,
    tuple[float, ...]: lambda value: isinstance(value, tuple) and all(map(TYPES[float], value)),  # pyright: ignore
}
RANGES: dict[str, Callable[[Any], bool]] = {
    "threshold": lambda value: value >= 0,
    "token_threshold": lambda value: value >= 0,
    "warmup": lambda value: value >= 0,
    "chunk_phase_updates": lambda value: value is None or value >= 0,
    "chunk_phase_steps": lambda value: value is None or value >= 0,
    "past_chunks": lambda value: value is None or value >= 1,
    "fit_range": lambda value: not value or (len(value) == 2 and 0 <= value[0] < value[1]),
    "reuse_ratio": lambda value: len(value) == 2 and all(map(is_share, value)),
    "floor": is_share,
    "minimum_update_ratio": is_share,
    "importance": is_share,
    "temporal_vote": lambda value: value is None or 0 <= value < 1,
    "power": lambda value: value > 0,
    "target_speedup": lambda value: value >= 1,
    "order": lambda value: value in (None, 1, 2),
    "calibration": lambda value: value != "",
}


def makes_sense(config: PolicyConfig, name: str) -> bool:
    value, hint = getattr(config, name), get_type_hints(type(config))[name]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return isinstance(value, hint)
    typed = any(TYPES[one](value) for one in ([hint] if hint in TYPES else get_args(hint)))
    return typed and (name not in RANGES or RANGES[name](value))


def test_a_constructor_accepts_nothing_that_its_hints_and_ranges_forbid() -> None:
    accepted = 0
    for config, name in FIELDS:
        for value in NONSENSE:
            made = made_or_none(config, **{name: value})
            accepted += made is not None
            assert made is None or makes_sense(made, name), (config, name, type(value))
    assert 0 < accepted < len(FIELDS) * len(NONSENSE) / 2


def test_a_mapping_accepts_nothing_that_hints_and_ranges_forbid() -> None:
    draw, accepted = random.Random(0), 0
    for _ in range(600 * ROUNDS):
        policies = draw.choice([POLICIES, MAGI_POLICIES])
        policy = draw.choice([policy for policy in sorted(policies) if policy != "none"])
        name = draw.choice([field.name for field in fields(policies[policy])])  # pyright: ignore
        value = draw.choice(NONSENSE)
        made = made_or_none(parse_policy, {"policy": policy, name: value}, where="here", policies=policies)
        accepted += made is not None
        assert made is None or makes_sense(made, name), (policy, name, type(value))
    assert 0 < accepted < 300 * ROUNDS


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: type(value).__name__)
def test_a_policy_a_name_or_a_key_of_any_kind_is_refused(value: Any) -> None:
    for values in (value, {"policy": value}):
        with pytest.raises(ConfigError):
            parse_policy(values, where="here")


RIGHT = {
    "layers": 1,
    "width": 2,
    "guidance": None,
    "weights": [0.1, 0.2],
    "sigmas": [1.0, 0.5, 0.25],
    "products": [[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]],
    "sensitivity": [2.0, 1.0, 3.0],
}


def mutated(draw: random.Random) -> str:
    """The text of a calibration with one or two changes."""
    content = json.loads(json.dumps(RIGHT))
    for _ in range(draw.randint(1, 2)):
        place, key = content, draw.choice(list(content))
        while isinstance(place[key], list) and place[key] and draw.random() < 0.7:
            place = place[key]
            key = draw.randrange(len(place))
        place[key] = deepcopy(draw.choice(IN_JSON)) if draw.random() < 0.8 else draw.uniform(-2, 2)
    text = json.dumps(content)
    return text if draw.random() < 0.9 else text[: draw.randrange(len(text))]


def is_calibration(read: Calibration) -> bool:
    model = read.model
    sized = all(type(size) is int and size >= 1 for size in (model.layers, model.width))
    guided = model.guidance is None or 1 <= model.guidance < math.inf
    falling = read.sigmas[0] <= 1 and read.sigmas[-1] > 0 and sorted(set(read.sigmas), reverse=True) == [*read.sigmas]
    scale = np.sqrt(np.outer(np.diag(read.products), np.diag(read.products)))
    lowest = np.linalg.eigvalsh(read.products / scale)[0]
    symmetric = np.allclose(read.products / scale, read.products.T / scale, atol=1e-5)
    sensible = bool((read.sensitivity > 0).all() and np.isfinite(read.sensitivity).all())
    harm = read.at(np.linspace(1, 0.1, 7).tolist(), 2).harm((2, 0))
    finite = bool(np.isfinite(model.weights).all() and np.isfinite(harm).all())
    return sized and guided and falling and symmetric and lowest > -1e-5 and sensible and finite


def test_a_calibration_is_one_or_is_refused(tmp_path: Path) -> None:
    draw, accepted, path = random.Random(1), 0, tmp_path / "calibration.json"
    for _ in range(600 * ROUNDS):
        path.write_text(text := mutated(draw))
        read = made_or_none(Calibration.load, path)
        accepted += read is not None
        assert read is None or is_calibration(read), text
    assert 0 < accepted < 300 * ROUNDS


FRAGMENTS = [
    *("null", "5", "1e999", "true", "''", "slow", "[slow]", "{}", "{slow: 5}", "{slow: null}", "{slow: [1]}", "[", "{"),
    *("{slow: {policy: none}}", "{slow: {policy: [none]}}", "{slow: {policy: {}}}", "{policy: none}", "${a}", "???"),
    *(
        "{slow: {policy: motioncache, warmup: 3}}",
        "{slow: {policy: motioncache, warmup: 1e999}}",
        "{5: {policy: none}}",
    ),
    *(
        "{slow: {policy: motioncache, warmup: {a: 1}}}",
        "{? [a] : 1}",
        '"',
        "!!python/object:a {}",
        "&a [*a]",
        "\t",
        "- 1",
    ),
    *("9" * 5000, "[" * 3000, "2024-01-01", "!!binary aGk=", "{<<: 5}", "{slow: '${presets}'}", "{slow: ${presets}}"),
]


SENSIBLE = [NoCacheConfig(), MotionCacheConfig(warmup=3)]
"""The only policies that the fragments hold."""


def test_a_presets_file_holds_a_policy_or_is_refused(tmp_path: Path) -> None:
    draw, accepted, path = random.Random(2), 0, tmp_path / "presets.yaml"
    for _ in range(400 * ROUNDS):
        one, other = draw.choices(FRAGMENTS, k=2)
        text = draw.choice([f"presets: {one}\npreset: {other}\n", f"presets: {one}\n", f"policy: {one}\n", one])
        path.write_bytes(text.encode() if draw.random() < 0.95 else text.encode("utf-16"))
        made = made_or_none(load_config, path, draw.choice([None, "slow", "", 5, [1], {}]))
        accepted += made is not None
        assert made in (None, *SENSIBLE), text
    assert 0 < accepted < 200 * ROUNDS
