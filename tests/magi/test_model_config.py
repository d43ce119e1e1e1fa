"""The official JSON configuration: every field has its type and its range, and an error names both."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_magi.loading.folders import Folders
from motioncache_magi.loading.variants import VARIANTS, released
from motioncache_magi.model.config import SHORTCUT_MODES, MagiConfig
from motioncache_magi.sampling.schedule import time_schedule

from .conftest import official_json, small_config


def test_a_configuration_needs_every_field_and_no_other(tmp_path: Path) -> None:
    values = official_json(small_config())
    assert MagiConfig.from_dict(json.loads(json.dumps(values)), where="it") == small_config()
    del values["model_config"]["num_layers"]
    values["model_config"]["layers"] = 2
    with pytest.raises(ConfigError, match="model_config lacks num_layers and has unknown layers"):
        MagiConfig.from_dict(values, where="it")
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        MagiConfig.from_file(path)


FIELDS: list[tuple[str, str, Any, str]] = [
    *(("model", "num_layers", value, "a whole number of at least 1") for value in ("34", 0, -1, True, 34.0, None, [2])),
    ("model", "x_rescale_factor", float("inf"), "a finite number"),
    ("model", "hidden_size", -64, "a whole number of at least 1"),
    ("model", "kv_channels", 12, "a multiple of 8"),
    ("model", "caption_max_length", 1, "2 or more"),
    ("model", "cond_hidden_ratio", 0.0, "large enough for one channel"),
    ("model", "layernorm_epsilon", float("nan"), "a finite number"),
    ("model", "x_rescale_factor", 0, "more than 0"),
    ("model", "out_channels", 32, "16"),
    ("model", "patch_size", 4, "2"),
    ("model", "apply_layernorm_1p", 1, "true or false"),
    ("model", "gated_linear_unit", "false", "true or false"),
    ("model", "model_name", "other", "'videodit_ardf'"),
    *(("model", "params_dtype", value, "one of torch.float32") for value in ("torch.nn", "int8", "torch.float64", "")),
    ("model", "params_dtype", 32, "a text"),
    ("runtime", "window_size", 0, "a whole number of at least 1"),
    ("runtime", "window_size", False, "a whole number of at least 1"),
    ("runtime", "seed", -1, "a whole number of at least 0"),
    ("runtime", "clean_chunk_kvrange", 0, "-1, or more than 0"),
    ("runtime", "text_scales", [7.5], "5 numbers, as many as cfg_t_range has"),
    ("runtime", "prev_chunk_scales", [1.5] * 6, "5 numbers, as many as cfg_t_range has"),
    ("runtime", "prev_chunk_scales", [1.5, 1.5, 1.5, 1.0, "1"], "a list of finite numbers"),
    ("runtime", "text_scales", 7.5, "a list of finite numbers"),
    ("runtime", "cfg_t_range", [0.1, 0.2, 0.3, 0.4, 0.5], "times that start at 0 and rise"),
    ("runtime", "cfg_t_range", [0.0, 0.3, 0.2, 0.4, 0.5], "times that start at 0 and rise"),
    ("runtime", "cfg_t_range", [], "times that start at 0 and rise"),
    ("runtime", "noise2clean_kvrange", [5, 0], "a list of whole numbers above 0"),
    ("runtime", "scale_factor", -0.1, "more than 0"),
    ("runtime", "clean_t", 2, "a time from 0 to 1"),
    ("runtime", "cfg_number", 2, "1 for this model"),
    ("engine", "distill", "yes", "true or false"),
    ("engine", "distill_nearly_clean_chunk_threshold", "0.3", "a finite number"),
    ("engine", "shortcut_mode", 8, "a text"),
    ("engine", "shortcut_mode", "8,8,16", "'8,16,16' or '16,16,8'"),
    ("engine", "cp_strategy", "ring", "'none' or 'cp_ulysses' or 'cp_shuffle_overlap'"),
    ("engine", "distributed_backend", "mpi", "'nccl' or 'gloo'"),
    ("engine", "enable_cuda_graph", True, "False"),
    ("engine", "kv_offload", 1, "true or false"),
    ("engine", "cp_size", 0, "a whole number of at least 1"),
    ("runtime", "t5_device", "gpu", "cpu, cuda or cuda:N"),
    ("runtime", "t5_device", None, "a text"),
]


@pytest.mark.parametrize(("section", "field", "value", "allowed"), FIELDS)
def test_a_wrong_value_is_named_with_its_field_and_file(
    tmp_path: Path, section: str, field: str, value: Any, allowed: str
) -> None:
    values = official_json(small_config())
    values[f"{section}_config"][field] = value
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    message = config_refusal(path)
    assert f"{path}: {section}_config: {field} must be {allowed}" in message
    assert f"not {value!r}; use the file that came with the weights" in message


@pytest.mark.parametrize("field", ["hidden_size", "x_rescale_factor"])
def test_a_number_of_400_digits_is_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(official_json(small_config(**{field: 10**400}))))
    assert f"{field} must be a " in config_refusal(path)


def test_heads_divide_into_query_groups(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(official_json(small_config(num_query_groups=3))))
    assert "num_attention_heads must be a multiple of num_query_groups = 3, not 4" in config_refusal(path)


def config_refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        MagiConfig.from_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_a_section_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**official_json(small_config()), "model_config": [1]}))
    assert f"{path}: model_config has to be a mapping, not [1]" in config_refusal(path)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_released_configurations_pass_the_checks(name: str) -> None:
    values = json.loads(json.dumps(official_json(released(name))))
    assert MagiConfig.from_dict(values, where=name) == released(name)


def test_a_distilled_model_has_no_guidance_of_three() -> None:
    values = official_json(small_config())
    values["runtime_config"]["cfg_number"] = 3
    with pytest.raises(ConfigError, match="cfg_number must be 1"):
        MagiConfig.from_dict(values, where="it")


def test_the_modes_of_twelve_steps_are_those_that_the_schedule_has() -> None:
    for mode in SHORTCUT_MODES:
        assert len(time_schedule(12, shortcut_mode=mode)) == 13
    with pytest.raises(ConfigError, match=r"shortcut_mode must be one of \['16,16,8', '8,16,16'\]"):
        time_schedule(12, shortcut_mode="4,4,4")


def test_the_official_settings_of_several_gpus_and_of_offloading_are_accepted() -> None:
    values = official_json(small_config())
    values["engine_config"] |= {"cp_size": 8, "pp_size": 2, "cp_strategy": "cp_ulysses", "kv_offload": True}
    assert MagiConfig.from_dict(values, where="it").engine.cp_size == 8


@pytest.mark.parametrize(("t5_device", "expected"), [("cpu", "cpu"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0")])
def test_prompts_are_encoded_where_the_configuration_says(t5_device: str, expected: str) -> None:
    config = small_config()
    config = replace(config, runtime=replace(config.runtime, t5_device=t5_device))
    assert config.text_device("cuda:1") == expected
    assert config.text_device("cpu") == "cpu"


OFFICIAL = {
    # As in example/*/*_config.json of the official repository; `load` and the like are paths.
    "4.5B_base": (64, 720, 720, "cpu", 3),
    "4.5B_distill": (64, 720, 720, "cpu", 1),
    "24B_base": (32, 720, 1280, "cuda", 3),
    "24B_distill": (16, 720, 1280, "cuda", 1),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_released_configurations_are_the_official_ones(name: str) -> None:
    runtime = released(name).runtime
    found = (runtime.num_steps, runtime.video_size_h, runtime.video_size_w, runtime.t5_device, runtime.cfg_number)
    assert found == OFFICIAL[name]


def folder_of(root: Path, variant: str, config: MagiConfig | None = None) -> Path:
    """Empty folders in the official layout."""
    for name in (f"magi/{variant}", "vae", "t5"):
        (root / name).mkdir(parents=True)
    if config is not None:
        (root / "magi" / variant / "config.json").write_text(json.dumps(official_json(config)))
    return root


def find(root: Path, **options: Any) -> Folders:
    return Folders.find(root, **{"variant": None, "config": None, "special_tokens": None, **options})


@pytest.mark.parametrize("name", VARIANTS)
def test_a_released_model_without_its_special_tokens_is_refused_with_where_they_are(name: str, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "plain", name)
    with pytest.raises(MotionCacheError, match=r"special_tokens.npz of github.com/SandAI-org/MAGI-1 to .*plain, or pa"):
        find(root)
    in_float32 = replace(released(name), model=replace(released(name).model, params_dtype="torch.float32"))
    renamed = folder_of(tmp_path / "renamed", "mine", in_float32)
    with pytest.raises(MotionCacheError, match="was trained with special tokens"):
        find(renamed)
    (root / "special_tokens.npz").touch()
    assert find(root).special_tokens == root / "special_tokens.npz"
    elsewhere = tmp_path / "tokens.npz"
    assert find(renamed, special_tokens=elsewhere).special_tokens == elsewhere


def test_a_model_of_another_shape_needs_no_special_tokens(tmp_path: Path) -> None:
    assert find(folder_of(tmp_path, "4.5B_distill", small_config())).special_tokens is None


@pytest.mark.parametrize("name", ["4.5B_distill_quant", "24B_distill_quant"])
def test_a_quantised_variant_has_the_settings_of_the_plain_one(name: str, tmp_path: Path) -> None:
    plain = released(name.removesuffix("_quant"))
    root = folder_of(tmp_path, name)
    (root / "special_tokens.npz").touch()
    assert find(root).config == replace(plain, engine=replace(plain.engine, fp8_quant=True))
