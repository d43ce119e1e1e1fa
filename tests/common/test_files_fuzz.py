"""Damaged files of prompts and JSON of checkpoints: each is read as what it says, or refused in one line."""

import json
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from motioncache.checkpoints import read_index, read_mapping
from motioncache_eval.prompts import read_prompts
from motioncache_eval.vbench.prompts import list_videos
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.vae.config import VaeConfig
from motioncache_skyreels.job.checkpoint import CHECKPOINT, check_configs

from ..fuzzing import HUGE, IN_JSON, ROUNDS, made_or_none
from ..magi.conftest import VAE, official_json, small_config
from ..skyreels.conftest import model_folder as model_folder  # a fixture

WORDS = [
    *("a dog", "b", "狐", "\u2028", "\x0c", "\x85", "\t", " ", "", "\r", "\0", "\ufeff", "x" * 300, "/", ".", "-0.mp4"),
    *("${oc.env:HOME}", "#", '"', "\x1b[2J", "é", "e\u0301", "\ud7ff", "\U0001f98a"),
]


def draw_text(draw: random.Random) -> bytes:
    """Lines of some words each, in UTF-8 or another encoding, sometimes cut."""
    ends = draw.choice([["\n"], ["\r\n"], ["\n", "\r\n", "\r"]])
    lines = ["".join(draw.choices(WORDS[:6] + WORDS[10:], k=draw.randint(0, 3))) for _ in range(draw.randint(0, 4))]
    if draw.random() < 0.3:
        lines.append(draw.choice(WORDS))
    text = draw.choice(["", "\ufeff"]) + "".join(line + draw.choice(ends) for line in lines)
    encoding = draw.choice(["utf-8"] * 8 + ["latin-1", "utf-16", "utf-16-le"])
    content = text.encode(encoding, errors="replace")
    return content if draw.random() < 0.9 else content[: draw.randint(0, len(content))]


def test_a_file_of_prompts_is_split_at_line_feeds_or_refused(tmp_path: Path) -> None:
    draw, accepted, path = random.Random(5), 0, tmp_path / "prompts.txt"
    for _ in range(600 * ROUNDS):
        content = draw_text(draw)
        path.write_bytes(content)
        prompts = made_or_none(read_prompts, path)
        accepted += prompts is not None
        if prompts is not None:
            lines = content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
            assert prompts == [line.strip() for line in lines if line.strip()]
            assert "\0" not in "".join(prompts)
    assert 0 < accepted < 600 * ROUNDS


def test_videos_have_names_of_their_own_or_are_refused(tmp_path: Path) -> None:
    draw, accepted = random.Random(6), 0
    for _ in range(300 * ROUNDS):
        for suffix in ("", "_longer"):
            (tmp_path / f"scene{suffix}.txt").write_bytes(draw_text(draw))
        long = draw.choice([None, tmp_path])
        videos = made_or_none(list_videos, ["scene"], samples=2, full_info=None, short=tmp_path, long=long)
        accepted += videos is not None
        names = {video.name for video in videos or ()}
        assert len(names) == len(videos or ())
        assert all(len(name.encode()) <= 255 and not {"/", "\0"} & set(name) for name in names)
    assert 0 < accepted < 300 * ROUNDS


def mutate(draw: random.Random, content: Any) -> bytes:
    """The JSON of a content in which one or two values are replaced, left out or added; sometimes cut or recoded."""
    content = deepcopy(content)
    for _ in range(draw.randint(1, 2)):
        place: Any = {"": content}
        key: Any = ""
        while isinstance(place[key], dict | list) and place[key] and (key == "" or draw.random() < 0.8):
            place = place[key]
            key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        change = draw.random()
        if change < 0.8 or not isinstance(place, dict) or key == "":
            place[key] = deepcopy(draw.choice([*IN_JSON, 2, 3, 8, 64, -HUGE, 2**63]))
        elif change < 0.9:
            del place[key]
        else:
            place["more"] = draw.choice(IN_JSON)
    text = json.dumps(content)
    damaged = draw.random()
    if damaged < 0.05:
        text = text[: draw.randrange(len(text))]
    elif damaged < 0.07:
        text = draw.choice(["[" * 100_000, "null", "[]", "", "9" * 5000, '{"a":' * 50_000])
    return text.encode("utf-16" if draw.random() < 0.02 else "utf-8")


def test_vbenchs_list_is_read_or_refused(tmp_path: Path) -> None:
    draw, accepted, path = random.Random(7), 0, tmp_path / "info.json"
    entries = [
        {"prompt_en": "a", "dimension": ["scene"], "auxiliary_info": {}},
        {"prompt_en": "b", "dimension": ["scene"]},
    ]
    for _ in range(400 * ROUNDS):
        path.write_bytes(mutate(draw, entries))
        videos = made_or_none(list_videos, ["scene"], samples=1, full_info=path, short=None, long=None)
        accepted += videos is not None
        assert {video.short for video in videos or ()} <= {"a", "b", "1.0"}
    assert 0 < accepted < 400 * ROUNDS


MAGI = json.loads(json.dumps(official_json(small_config())))
INDEX = {"metadata": {"total_size": 1}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
READ: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "magi": (MAGI, MagiConfig.from_file),
    "vae": (VAE, lambda path: VaeConfig.from_official(read_mapping(path), where=str(path))),
    "index": (INDEX, read_index),
}


@pytest.mark.parametrize("kind", READ)
def test_the_json_of_a_magi_checkpoint_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    draw, accepted, path = random.Random(8), 0, tmp_path / "config.json"
    content, read = READ[kind]
    for _ in range(400 * ROUNDS):
        path.write_bytes(mutate(draw, content))
        made = made_or_none(read, path)
        accepted += made is not None
        if isinstance(made, MagiConfig):
            assert_magi_makes_sense(made)
        if isinstance(made, VaeConfig):
            assert min(made.depth, made.num_heads, made.embed_dim, made.mlp_ratio) > 0
            assert made.embed_dim % made.num_heads == 0
        if isinstance(made, dict):
            assert {file.parent for file in made.values()} == {tmp_path}
    assert 0 < accepted < 400 * ROUNDS


def assert_magi_makes_sense(config: MagiConfig) -> None:
    model, runtime = config.model, config.runtime
    sizes = (model.num_layers, model.hidden_size, model.kv_channels, model.num_query_groups, runtime.num_steps)
    assert all(type(size) is int and 1 <= size < 2**63 for size in sizes)
    assert model.num_attention_heads % model.num_query_groups == 0
    assert all(0 <= time < float("inf") for time in runtime.cfg_t_range)
    assert len(runtime.text_scales) == len(runtime.cfg_t_range)
    assert 0 <= runtime.clean_t <= 1


PARTS = ["transformer/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"]
SKYREELS_SIZES = {
    "transformer/config.json": ("num_layers", "num_attention_heads", "ffn_dim", "in_channels"),
    "vae/config.json": ("base_dim", "z_dim", "num_res_blocks"),
    "text_encoder/config.json": ("vocab_size", "d_model", "num_layers"),
    "scheduler/scheduler_config.json": ("num_train_timesteps", "solver_order"),
}


def test_the_json_of_a_skyreels_checkpoint_is_read_or_refused(model_folder: Path, tmp_path: Path) -> None:
    draw, accepted = random.Random(9), 0
    contents = {part: json.loads((model_folder / part).read_text()) for part in PARTS}
    for part in PARTS:
        (tmp_path / part).parent.mkdir()
    for _ in range(600 * ROUNDS):
        damaged = draw.choice(PARTS)
        for part in PARTS:
            (tmp_path / part).write_text(json.dumps(contents[part]))
        (tmp_path / damaged).write_bytes(mutate(draw, contents[damaged]))
        made = made_or_none(lambda: (check_configs(tmp_path), True)[1])
        accepted += made is not None
        if made:
            values = json.loads((tmp_path / damaged).read_text(encoding="utf-8"))
            sizes = [values[name] for name in SKYREELS_SIZES[damaged] if name in values]
            assert all(type(size) is int and 1 <= size < 2**63 for size in sizes), values
    assert 0 < accepted < 600 * ROUNDS


def test_the_index_of_a_pipeline_is_read_or_refused(model_folder: Path, tmp_path: Path) -> None:
    draw, accepted, path = random.Random(10), 0, tmp_path / "model_index.json"
    content = json.loads((model_folder / "model_index.json").read_text())
    for _ in range(200 * ROUNDS):
        path.write_bytes(mutate(draw, content))
        made = made_or_none(lambda: (CHECKPOINT.check_folder(str(tmp_path)), True)[1])
        accepted += made is not None
        assert made is None or json.loads(path.read_bytes())["_class_name"] == content["_class_name"]
    assert 0 < accepted < 200 * ROUNDS
