"""Nonsense on the command line: all that is accepted is listed here, and was read by a person."""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml

from motioncache.errors import ConfigError
from motioncache.polynomials import Polynomial, model_polynomial
from motioncache_eval.vbench.config import VBenchConfig, load_vbench
from motioncache_eval.vbench.prompts import suites_of
from motioncache_magi.job.config import MagiJobConfig, load_magi_job
from motioncache_skyreels.job.config import JobConfig, load_job
from motioncache_skyreels.job.model import SkyReelsJobs

from ..fuzzing import IN_JSON, OVERRIDES, ROUNDS, made_or_none
from ..skyreels.conftest import make_transformer

HERE = tempfile.TemporaryDirectory()
FILE = Path(HERE.name) / "MotionCache" / "addconfig" / "config.yaml"
"""A file with the fewest settings, which is quick to read."""
FILE.parent.mkdir(parents=True)
FILE.write_text("prompt: a red fox\nmodel: model\n")
VBENCH = FILE.with_name("vbench.yaml")
VBENCH.write_text("vbench: {settings: {small: {height: 32}}}\n")
MODEL = SkyReelsJobs()


def vbench(overrides: Sequence[str]) -> VBenchConfig:
    settings, _ = load_vbench(MODEL, VBENCH, overrides)
    suites_of(settings.dimensions)
    return settings


def vbench_job(overrides: Sequence[str]) -> JobConfig:
    return load_vbench(MODEL, VBENCH, overrides)[1]


def job(overrides: Sequence[str]) -> JobConfig:
    return load_job(FILE, overrides)


def magi_job(overrides: Sequence[str]) -> MagiJobConfig:
    return load_magi_job(FILE, overrides)


NULL = dict.fromkeys(("", " ", "null", "~", "\u2028"))
WHOLE = {"1": 1, "2": 2, "7": 7, "17": 17, "32": 32, "64": 64, "97": 97, "0x10": 16, "1_000": 1000}
NUMBERS = {**{key: float(value) for key, value in WHOLE.items()}, "0.5": 0.5, "1e3": 1000.0}
SIGNED = {**NUMBERS, "0": 0.0, "-1": -1.0, "-0.5": -0.5}
TWO_OR_MORE = {key: value for key, value in WHOLE.items() if value >= 2}
SIXTEENS = {"32": 32, "64": 64, "0x10": 16}
ANY_TEXT = {value: value for value in OVERRIDES}
"""Texts are taken to the letter, and whether there is such a preset or a model is seen later."""
A_PATH = {
    value: value for value in OVERRIDES if value == "" or (value.isprintable() and value.strip() and len(value) <= 240)
}
MAYBE_A_PATH = {**A_PATH, "null": None}


def without(values: dict[str, Any], *texts: str) -> dict[str, Any]:
    """The values but for some that are out of range, see `motioncache.limits`."""
    return {text: value for text, value in values.items() if text not in texts}


FRAME_RATES = without(WHOLE, "1_000")
TRUE_OR_FALSE = {"true": True, "1": True, "0": False}

SHARED: dict[str, dict[str, Any]] = {
    "model": A_PATH,
    "preset": {**ANY_TEXT, "null": None},
    "target_speedup": {**SIGNED, **NULL},
    "allow_foreign_calibration": TRUE_OR_FALSE,
    "prompt": {value: value for value in OVERRIDES if value.strip()},
    "seed": {"0": 0, **WHOLE},
    "device": {value: value for value in ("cpu", "cuda", "cuda:1")},
    "cpu_offload": TRUE_OR_FALSE,
    "output": A_PATH,
}
ACCEPTED_JOB = {
    **SHARED,
    "negative_prompt": ANY_TEXT,
    "height": SIXTEENS,
    "width": SIXTEENS,
    "num_frames": {"1": 1, "17": 17, "97": 97},
    "base_num_frames": {"97": 97},
    "overlap_history": {**without(WHOLE, "2", "7", "32", "64", "97", "0x10", "1_000"), **NULL},
    "addnoise_condition": without(SIGNED, "-1", "-0.5"),
    "num_inference_steps": TWO_OR_MORE,
    "guidance_scale": without(SIGNED, "1_000", "1e3", "-1", "-0.5"),
    "flow_shift": {**without(NUMBERS, "1_000", "1e3"), **NULL},
    "ar_step": {"0": 0, **WHOLE},
    "causal_block_size": TWO_OR_MORE,
    "fps": FRAME_RATES,
    "dtype": {"float32": "float32"},
    "kv": {"null": None},
    "split_guidance": TRUE_OR_FALSE,
}
MAYBE_WHOLE = {**WHOLE, **NULL}
ACCEPTED_MAGI = {
    **SHARED,
    "model": {key: value for key, value in A_PATH.items() if value},
    "variant": {**ANY_TEXT, "null": None},
    **dict.fromkeys(("config", "special_tokens", "image", "video"), MAYBE_A_PATH),
    **dict.fromkeys(("height", "width", "num_frames", "num_inference_steps"), MAYBE_WHOLE),
    "fps": {**FRAME_RATES, **NULL},
    "seed": {"0": 0, **WHOLE, **NULL},
    "kv": {"null": None},
    "weights": {"null": None},
    "t5_dtype": {"float32": "float32"},
    "chunks_at_once": MAYBE_WHOLE,
    "dtype": {"null": None, "float32": "float32"},
}
LISTS: dict[str, tuple[str, ...]] = {
    "[]": (),
    "[1]": ("1",),
    "- 1": ("1",),
    "[a, b]": ("a", "b"),
    "[cpu]": ("cpu",),
    "[cpu:x]": ("cpu:x",),
}
A_NAMED_PATH = {key: value for key, value in MAYBE_A_PATH.items() if value != ""}
ACCEPTED_VBENCH: dict[str, dict[str, Any]] = {
    "setting": {"null": None},
    "presets": {key: value for key, value in LISTS.items() if value},
    "dimensions": {},
    "flickering_samples": MAYBE_WHOLE,
    **dict.fromkeys(("same_seed", "dry_run"), TRUE_OR_FALSE),
    "score": {**TRUE_OR_FALSE, **NULL},
    "seconds_per_video": {"{}": {}, "{a: 1}": {"a": 1}},
    **dict.fromkeys(("full_info", "short_prompts", "long_prompts"), A_NAMED_PATH),
    "samples_per_prompt": WHOLE,
    "devices": {"[]": (), "[cpu]": ("cpu",)},
    "executor": {},
    "address": {"": ""},
    "verify": {},
    "item_timeout": {**NUMBERS, **NULL},
    "output": {**A_NAMED_PATH, "null": "null"},
}
SCHEMAS: list[tuple[type, Callable[[Sequence[str]], Any], dict[str, dict[str, Any]]]] = [
    (JobConfig, job, ACCEPTED_JOB),
    (MagiJobConfig, magi_job, ACCEPTED_MAGI),
    (VBenchConfig, vbench, ACCEPTED_VBENCH),
]


@pytest.mark.parametrize(("schema", "load", "accepted"), SCHEMAS, ids=["job", "magi", "vbench"])
def test_the_values_of_an_override_that_are_accepted_are_these(
    schema: type, load: Callable[[Sequence[str]], Any], accepted: dict[str, dict[str, Any]]
) -> None:
    assert accepted.keys() == {field.name for field in fields(schema)}
    for name, values in accepted.items():
        made = {value: made_or_none(load, [f"{name}={value}"]) for value in OVERRIDES}
        assert {value: getattr(one, name) for value, one in made.items() if one is not None} == values, name


def test_overrides_of_all_kinds_together_are_taken_or_refused() -> None:
    draw, accepted = random.Random(3), 0
    for _ in range(300 * ROUNDS):
        schema, load, allowed = draw.choice([*SCHEMAS, (JobConfig, vbench_job, ACCEPTED_JOB)])
        names = draw.choices([field.name for field in fields(schema)], k=2)
        values = [draw.choice([*OVERRIDES, *allowed[name]]) for name in names]
        texts = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
        made = made_or_none(
            load, [draw.choice(["", "=", "a", "a.b=1", *texts]), *texts] if draw.random() < 0.2 else texts
        )
        accepted += made is not None
        hints = get_type_hints(schema)
        assert made is None or all(isinstance(getattr(made, name), _classes(hints[name])) for name in names)
    assert 0 < accepted < 300 * ROUNDS


def _classes(hint: Any) -> tuple[type, ...]:
    """The classes that a value of a field has."""
    one_of = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    classes = [get_origin(part) or part for part in one_of]
    return (*classes, int) if float in classes else (*classes,)


def file_with(folder: Path, text: str) -> Path:
    path = folder / "MotionCache" / "addconfig" / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


SECTIONS = [
    "null",
    "5",
    "[1]",
    "a",
    "${oc.env:HOME}",
    "${a}",
    "???",
    "{a: 1}",
    "{seed: [1]}",
    "{model: {a: 1}}",
    "[",
    "{",
]


@pytest.mark.parametrize("section", [*SECTIONS, "{output: [1]}", "{devices: cpu}", "{model: ${oc.env:HOME}, seed: a}"])
def test_a_file_with_nonsense_in_its_section_is_refused(tmp_path: Path, section: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]{1,999}$"):
        load_vbench(MODEL, file_with(tmp_path, f"vbench: {section}"), [])


def test_a_job_file_of_nonsense_is_read_or_refused(tmp_path: Path) -> None:
    draw, accepted = random.Random(4), 0
    loads = [(load_job, ""), (load_magi_job, ""), (partial(load_vbench, MODEL), "vbench")]
    for _ in range(300 * ROUNDS):
        load, section = draw.choice(loads)
        names = draw.choices([*ACCEPTED_JOB, *ACCEPTED_VBENCH], k=2)
        content = {name: draw.choice([*IN_JSON, *OVERRIDES[:40]]) for name in names if name != "prompt"}
        content |= {} if section else {"prompt": "a red fox"}
        path = file_with(tmp_path, yaml.safe_dump({section: content} if section else content))
        made = made_or_none(load, path, [])
        accepted += made is not None
        assert "/root" not in str(made)
    assert 0 < accepted < 300 * ROUNDS


ROW = {"layers": 2, "width": 48, "coefficients": [1.0, 0.0], "fit_range": [0.0, 1.0], "source": "me"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("layers", value) for value in (-1, 0, True, 2.5, None, [2], "a", "${oc.env:HOME}", 10**400)),
        *(("width", value) for value in (-1, 0, True, {"a": 1})),
        *(("coefficients", value) for value in ([], {}, None, [True], [[1.0]], ["a"], [float("inf")], 1.0)),
        *(("fit_range", value) for value in ([1.0], [1.0, 0.5], [-1.0, 1.0], [0, float("nan")], {}, 5)),
        *(("source", value) for value in ([1], {"a": 1}, None)),
        ("more", 1),
    ],
)
def test_a_polynomial_of_nonsense_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"polynomials": [{**ROW, name: value}]}))
    with pytest.raises(ConfigError, match=rf"polynomials\[0\].*{name}"):
        model_polynomial(make_transformer(), path, "motioncache_skyreels")


@pytest.mark.parametrize("table", ["5", "a", "{a: 1}", "[5]", "[null]", "${oc.env:HOME}", "???", "[[1]]"])
def test_a_table_of_polynomials_that_is_none_is_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"polynomials: {table}")
    with pytest.raises(ConfigError, match=r"polynomials[^\n]+$"):
        model_polynomial(make_transformer(), path, "motioncache_skyreels")


def test_a_right_polynomial_is_found(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"polynomials": [ROW]}))
    assert model_polynomial(make_transformer(), path, "motioncache_skyreels") == Polynomial(
        layers=2, width=48, coefficients=(1.0, 0.0), fit_range=(0.0, 1.0), source="me"
    )
