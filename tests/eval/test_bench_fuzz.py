"""Nonsense in a benchmark's YAML and in its overrides: what is accepted is listed, all else is one line."""

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from motioncache.errors import MotionCacheError
from motioncache_eval.bench.benchmark import Sweep, load_sweep

RIGHT: dict[str, Any] = {
    "model": "skyreels-v2",
    "job": "job.yaml",
    "settings": {"num_frames": 57},
    "prompts": "prompts.txt",
    "count": 2,
    "repeats": 1,
    "output": "results",
    "shown": 1,
    "compare": [["exact", "TeaCache at 0.5"]],
    "budgets": [0.5],
    "budget_of": "exact",
    "tuned": "tuned",
    "tuning_prompts": "prompts.txt",
    "methods": {
        "vanilla": {},
        "exact": {"preset": "exact", "count": 1, "may_fail": True, "family": "all"},
        "TeaCache": {
            "policy": {"policy": "teacache", "threshold": 0.1},
            "tune": {"knob": "policy.threshold", "low": 0.1, "high": 1.0, "multiple": 1},
        },
        "other": {"baseline": "dbcache", "knobs": {"warmup": 1}, "job": {"num_frames": 97}},
    },
}

NULL = ["null", "\t"]
LONG_NUMBER, LONG_NAME, LONG_PATH = "9" * 400, "a" * 300, "a/" * 3000
NUMBERS = ["-1", "0", "1", "2", "7", "0.5"]
NAMES = ["abc", "a/b", "..", ".", "猫", "${a}", "${oc.env:HOME}", "???", "2024-01-01"]
FILES = ["none.txt", "latin.txt", "empty.txt", "twice.txt"]
ODD_TEXTS = ["''", "' '", '"a\\0b"', '"a\\nb"', LONG_NAME, LONG_PATH]
LISTS = ["[]", "[1]", "[a, b]", "[a, a]", "[[a]]", "[[vanilla, [a]]]", "[[exact, exact]]", "[a/b, ..]", "[1, '1']"]
LISTS += ["[null, [1]]"]
MAPPINGS = ["{}", "{a: 1}", "{a b: 1}", "{vanilla: 5}", "{prompt: a}", "{policy: [1]}"]
NEVER = ["9" * 5000, '"\\ud800"', "{1: 2}", "{a: {b: [.inf]}}", "!!binary aGk=", "!!python/object:a {}", "&a [*a]", "["]
FRAGMENTS = [
    *NULL,
    "true",
    "1e999",
    ".nan",
    LONG_NUMBER,
    *NUMBERS,
    *NAMES,
    *FILES,
    *ODD_TEXTS,
    *LISTS,
    *MAPPINGS,
    *NEVER,
]

WORDS = ["true", "1e999", ".nan", *NUMBERS, *NAMES, *FILES]
"""What YAML takes for something else, a text field takes for a text."""

PLAIN = [*NULL, "true", *NUMBERS, *NAMES, *FILES, *ODD_TEXTS, *LISTS, *MAPPINGS]
"""What the model's package will check."""

FRAGMENTS = [*PLAIN, "1e999", ".nan", LONG_NUMBER, *NEVER]

ACCEPTED = {
    "model": [*WORDS, "' '", '"a\\0b"', '"a\\nb"', LONG_NUMBER, LONG_NAME, LONG_PATH],  # then there is no such model
    "job": [*WORDS, "''"],
    "settings": ["{}", "{a: 1}", "{vanilla: 5}", "{policy: [1]}"],
    "settings.num_frames": PLAIN,
    "count": [*NULL, "1", "2"],
    "repeats": ["1", "2", "7"],
    "output": [*NULL, *NAMES, *FILES, "''"],
    "shown": ["0", "1", "2", "7"],
    "compare": ["[]"],
    "tuned": WORDS,
    "tuning_prompts": WORDS,
    "methods.vanilla": [*NULL, "{}"],
    "methods.exact": [*NULL, "{}"],
    "methods.exact.preset": [*NULL, *WORDS, *ODD_TEXTS, LONG_NUMBER],  # then there is no such preset
    "methods.exact.count": [*NULL, "1", "2", "7"],
    "methods.exact.may_fail": ["true", "0", "1"],
    "methods.exact.family": [*NULL, *WORDS],
    "methods.TeaCache.policy": [*NULL, *MAPPINGS],
    "methods.TeaCache.policy.policy": PLAIN,
    "methods.TeaCache.policy.threshold": PLAIN,
    "methods.TeaCache.tune.low": ["0.5"],
    "methods.TeaCache.tune.high": ["0.5", "1", "2", "7"],
    "methods.TeaCache.tune.multiple": [*NULL, "1", "2", "7"],
    "methods.other": [*NULL, "{}"],
    "methods.other.baseline": [*WORDS, *ODD_TEXTS, LONG_NUMBER],
    "methods.other.knobs": MAPPINGS,
    "methods.other.knobs.warmup": PLAIN,
    "methods.other.job": MAPPINGS,
    "methods.other.job.num_frames": PLAIN,
}
"""By place, the fragments that are no mistake there, or one for the model's package to find; elsewhere none are."""


def places(values: dict[str, Any], *above: str) -> list[tuple[str, ...]]:
    """The ways to all values of nested mappings."""
    found: list[tuple[str, ...]] = []
    for key, value in values.items():
        found += [(*above, key), *(places(value, *above, key) if isinstance(value, dict) else [])]
    return found


def with_fragment(place: tuple[str, ...], fragment: str) -> str:
    """The text of the benchmark with a fragment of YAML in one place."""
    values = deepcopy(RIGHT)
    section = values
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = "HERE"
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).replace("HERE", fragment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    (tmp_path / "latin.txt").write_bytes("un café\nun thé\n".encode("latin-1"))
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "twice.txt").write_text("a red circle\na red circle\n")
    return tmp_path


def read_or_none(path: Path, *overrides: str) -> Sweep | None:
    """What is read, or None for what is refused in one line."""
    try:
        return load_sweep(path, overrides)
    except MotionCacheError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 1500
    return None


def test_a_benchmark_is_one_or_is_refused(folder: Path) -> None:
    draw, path, accepted = random.Random(0), folder / "bench.yaml", 0
    path.write_text(yaml.safe_dump(RIGHT))
    assert read_or_none(path) is not None
    for place, fragment in draw.sample([(place, fragment) for place in places(RIGHT) for fragment in FRAGMENTS], 200):
        path.write_text(with_fragment(place, fragment), encoding="utf-8")
        read, name = read_or_none(path), ".".join(place)
        assert (read is not None) == (fragment in ACCEPTED.get(name, [])), (name, fragment)
        accepted += read is not None
    assert 20 < accepted < 150


KEYS = ["count", "settings.seed", "methods.slow.preset", "methods.exact.preset", "methods.TeaCache.policy.threshold"]
KEYS += [
    "methods.TeaCache.tune.low",
    "sweep.key",
    "methods",
    "methods.",
    "settings",
    "nope",
    "a.b.c",
    ".",
    "methods..count",
]


def test_an_override_is_one_or_is_refused(folder: Path) -> None:
    draw, path, read = random.Random(1), folder / "bench.yaml", set[str]()
    path.write_text(yaml.safe_dump(RIGHT))
    for key, fragment in draw.sample([(key, fragment) for key in KEYS for fragment in FRAGMENTS], 60):
        if read_or_none(path, f"{key}={fragment}") is not None:
            read.add(key)
    known = {"count", "settings.seed", "methods.exact.preset", "methods.TeaCache.policy.threshold", "settings"}
    assert {"settings.seed", "methods.exact.preset"} <= read <= known | {"methods.TeaCache.tune.low"}
