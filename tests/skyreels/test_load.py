"""Checkpoints of SkyReels-V2 that are wrong or damaged: one line says what was found and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline
from safetensors.torch import load_file, save_file
from transformers import UMT5Config, UMT5ForConditionalGeneration

from motioncache.errors import MotionCacheError
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.load import load_pipeline

Weights = dict[str, torch.Tensor]
TRANSFORMER, VAE, TEXT = "transformer/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def load(model: Path | str, **settings: Any) -> SkyReelsV2DiffusionForcingPipeline:
    return load_pipeline(JobConfig(model=str(model), prompt="a red fox", **settings))


def refusal(model: Path, **settings: Any) -> str:
    with pytest.raises(MotionCacheError) as caught:
        load(model, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[Weights], object]) -> None:
    path = next(folder.glob("*.safetensors"))
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


CONFIGS: list[tuple[str, str, Any, str]] = [
    *((TRANSFORMER, "num_layers", value, "a whole number above 0") for value in (0, -1, True, "2", 2.0, None)),
    (TRANSFORMER, "num_attention_heads", 0, "a whole number above 0"),
    (TRANSFORMER, "ffn_dim", -64, "a whole number above 0"),
    (TRANSFORMER, "patch_size", [1, 2, 0], "three whole numbers above 0"),
    (TRANSFORMER, "patch_size", 2, "three whole numbers above 0"),
    (TRANSFORMER, "in_channels", 8, "4, the z_dim of"),
    (TRANSFORMER, "text_dim", 8, "64, the d_model of"),
    (TEXT, "num_layers", 0, "a whole number above 0"),
    (TEXT, "d_kv", "16", "a whole number above 0"),
    (VAE, "z_dim", 0, "a whole number above 0"),
    (VAE, "scale_factor_temporal", 0, "a whole number above 0"),
    (VAE, "latents_std", [1.0, 0.0, 1.0, 1.0], "4 numbers above 0"),
    (VAE, "latents_std", [1.0, float("nan"), 1.0, 1.0], "4 numbers above 0"),
    (VAE, "latents_std", None, "4 numbers above 0"),
    (VAE, "latents_mean", [0.0, 0.0], "4 numbers that are finite"),
    (VAE, "latents_mean", "zero", "4 numbers that are finite"),
    (SCHEDULER, "num_train_timesteps", 0, "a whole number above 0"),
    (SCHEDULER, "solver_order", 0, "a whole number above 0"),
    (SCHEDULER, "flow_shift", 0, "a number above 0"),
]


@pytest.mark.parametrize(("file", "field", "value", "allowed"), CONFIGS)
def test_a_value_that_no_model_has_is_refused(model: Path, file: str, field: str, value: Any, allowed: str) -> None:
    edit_json(model / file, **{field: value})
    message = refusal(model)
    assert f"{model / file}: {field} must be {allowed}" in message
    assert f"not {value!r}" in message


@pytest.mark.parametrize("file", ["model_index.json", TRANSFORMER, VAE, TEXT, SCHEDULER])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 100_000, "is damaged and cannot be read as JSON"),
        (b"{", "is damaged and cannot be read as JSON"),
        ('{"name": "caf\xe9"}'.encode("latin-1"), "is damaged and cannot be read as JSON"),
        (b"9" * 5000, "is damaged and cannot be read as JSON"),
        (b"[1, 2]", r"must hold a mapping, not [1, 2]"),
        (b"null", "must hold a mapping, not None"),
    ],
    ids=["deep", "cut", "latin-1", "digits", "list", "null"],
)
def test_a_file_that_holds_no_mapping_is_refused(model: Path, file: str, content: bytes, problem: str) -> None:
    (model / file).write_bytes(content)
    assert f"{model / file} {problem}" in refusal(model)


@pytest.mark.parametrize("file", [TRANSFORMER, VAE, TEXT, SCHEDULER])
def test_a_lost_configuration_is_refused(model: Path, file: str) -> None:
    (model / file).unlink()
    assert f"{model / file} cannot be read" in refusal(model)


def test_surplus_layers_are_not_dropped(model: Path) -> None:
    edit_json(model / TRANSFORMER, num_layers=1)
    message = refusal(model)
    assert "unexpected tensors, blocks.1." in message
    assert "download both again" in message


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_tensor_too_many_is_refused(model: Path, part: str) -> None:
    edit_weights(model / part, lambda weights: weights.update(more=torch.zeros(1)))
    assert f"{model / part} has 1 unexpected tensors, more among them" in refusal(model)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.float8_e4m3fn])
def test_weights_that_are_no_floats_of_16_or_32_bits_are_refused(model: Path, part: str, dtype: torch.dtype) -> None:
    name = first_weight(model / part)
    edit_weights(model / part, lambda weights: weights.update({name: weights[name].to(dtype)}))
    assert f"{name} is {dtype}, not a float of 16 or 32 bits" in refusal(model)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_nan_or_infinite_are_refused(model: Path, part: str, value: float) -> None:
    name = first_weight(model / part)
    edit_weights(model / part, lambda weights: weights[name].view(-1)[-1:].fill_(value))
    assert f"{name} has values that are NaN or infinite" in refusal(model)


def first_weight(folder: Path) -> str:
    return min(load_file(next(folder.glob("*.safetensors"))))


def test_weights_too_large_for_float16_are_refused_and_pass_in_float32(model: Path) -> None:
    name = first_weight(model / "transformer")
    edit_weights(model / "transformer", lambda weights: weights[name].view(-1)[:1].fill_(1e6))
    assert f"{name} has values that are NaN or infinite in torch.float16" in refusal(model, dtype="float16")
    load(model, dtype="float32")


def test_the_shards_of_an_index_are_checked_as_well(model: Path) -> None:
    folder = model / "transformer"
    weights = load_file(next(folder.glob("*.safetensors")))
    next(folder.glob("*.safetensors")).unlink()
    shard, name = "diffusion_pytorch_model-00001-of-00001.safetensors", min(weights)
    save_file(weights, folder / shard, metadata={"format": "pt"})
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, shard)}))
    load(model)
    save_file({**weights, name: weights[name].to(torch.int8)}, folder / shard, metadata={"format": "pt"})
    assert f"{folder / shard}: {name} is torch.int8" in refusal(model)


def test_pickled_weights_are_checked_as_well(model: Path) -> None:
    folder = model / "text_encoder"
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    load(model)
    name = min(weights)
    torch.save({**weights, name: weights[name].to(torch.int8)}, folder / "pytorch_model.bin")
    assert f"{name} is torch.int8" in refusal(model)


def test_a_whole_umt5_serves_as_text_encoder(model: Path) -> None:
    config = UMT5Config.from_pretrained(model / "text_encoder")
    UMT5ForConditionalGeneration(config).save_pretrained(model / "text_encoder")
    load(model)


def test_a_quantised_part_is_left_to_diffusers(model: Path) -> None:
    name = first_weight(model / "transformer")
    edit_weights(model / "transformer", lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    edit_json(model / TRANSFORMER, quantization_config=None)
    assert "not a float of 16 or 32 bits" in refusal(model)
    edit_json(model / TRANSFORMER, quantization_config={"quant_method": "nobody's"})
    assert "cannot be loaded: ValueError: Unknown quantization type" in refusal(model)


def test_a_model_of_the_hub_is_checked_after_the_download(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SkyReelsV2DiffusionForcingPipeline, "download", lambda name: str(model))
    load("someone/something")
    edit_json(model / TRANSFORMER, num_layers=0)
    with pytest.raises(MotionCacheError, match="num_layers must be a whole number above 0, not 0"):
        load("someone/something")
