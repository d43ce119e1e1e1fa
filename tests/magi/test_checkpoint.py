"""Official checkpoints: sizes of the released models, strict loading, and a clear error for each damage."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_magi.loading.checkpoint import load_dit, load_vae
from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.pipeline import MagiPipeline

from .conftest import VAE, official_json, random_dit, save_model, small_config

WEIGHTS = "inference_weight.distill"


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"), [("4.5B_base", 4_459_898_128, 898), ("24B_distill", 23_899_281_936, 1262)]
)
def test_the_released_sizes(name: str, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        model = VideoDiT(released(name).model)
    assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == (parameters, tensors)


def test_the_names_and_shapes_of_the_official_tensors() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(x.shape) for name, x in VideoDiT(released("4.5B_base").model).state_dict().items()}
    layer = "videodit_blocks.layers.33."
    expected = {
        "x_embedder.weight": (3072, 16, 1, 2, 2),
        "t_embedder.mlp.0.weight": (768, 256),
        "t_embedder.mlp.2.bias": (768,),
        "y_embedder.null_caption_embedding": (800, 4096),
        "y_embedder.y_proj_xattn.0.weight": (3072, 4096),
        "y_embedder.y_proj_adaln.0.bias": (768,),
        "rope.bands": (16,),
        "videodit_blocks.final_layernorm.weight": (3072,),
        "final_linear.linear.weight": (64, 3072),
        f"{layer}ada_modulate_layer.proj.0.weight": (6144, 768),
        f"{layer}self_attention.linear_qkv.layer_norm.bias": (3072,),
        f"{layer}self_attention.linear_qkv.q.weight": (3072, 3072),
        f"{layer}self_attention.linear_qkv.qx.weight": (3072, 3072),
        f"{layer}self_attention.linear_qkv.k.weight": (1024, 3072),
        f"{layer}self_attention.linear_qkv.v.weight": (1024, 3072),
        f"{layer}self_attention.linear_kv_xattn.weight": (2048, 3072),
        f"{layer}self_attention.linear_proj.weight": (3072, 6144),
        f"{layer}self_attention.q_layernorm.weight": (128,),
        f"{layer}self_attention.k_layernorm_xattn.bias": (128,),
        f"{layer}self_attn_post_norm.bias": (3072,),
        f"{layer}mlp.layer_norm.weight": (3072,),
        f"{layer}mlp.linear_fc1.weight": (12288, 3072),
        f"{layer}mlp.linear_fc2.weight": (3072, 12288),
        f"{layer}mlp_post_norm.weight": (3072,),
    }
    assert {name: shapes.get(name) for name in expected} == expected


def variant(root: Path) -> Path:
    return root / "ckpt" / "magi" / "4.5B_distill"


def test_two_shards_load_into_the_same_model(distilled: Path) -> None:
    config = small_config()
    loaded = load_dit(variant(distilled), config).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in random_dit(config.model).state_dict().items())


def test_dtypes_follow_the_configuration_not_the_file(distilled: Path) -> None:
    config = small_config(params_dtype="torch.bfloat16")
    dtypes = {name: p.dtype for name, p in load_dit(variant(distilled), config).named_parameters()}
    layer = "videodit_blocks.layers.0."
    assert dtypes["x_embedder.weight"] == dtypes[f"{layer}mlp_post_norm.weight"] == torch.float32
    assert dtypes[f"{layer}mlp.linear_fc1.weight"] == torch.bfloat16
    assert dtypes[f"{layer}self_attention.q_layernorm.weight"] == torch.float32
    assert dtypes[f"{layer}self_attention.q_layernorm_xattn.weight"] == torch.bfloat16


def test_a_single_file_loads_as_well(tmp_path: Path) -> None:
    config = small_config()
    (tmp_path / WEIGHTS).mkdir()
    save_file(random_dit(config.model).state_dict(), tmp_path / WEIGHTS / "model.safetensors")
    assert load_dit(tmp_path, config).config == config.model


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the first shard and keep the index true to it."""
    path = folder / WEIGHTS / "model-00001-of-00002.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    index = folder / WEIGHTS / "model.safetensors.index.json"
    other = json.loads(index.read_text())["weight_map"]
    kept = {name: file for name, file in other.items() if file != path.name}
    index.write_text(json.dumps({"weight_map": {**kept, **dict.fromkeys(weights, path.name)}}))


def rename(weights: dict[str, torch.Tensor], old: str, new: str) -> None:
    weights[new] = weights.pop(old)


NAME = "videodit_blocks.layers.0.ada_modulate_layer.proj.0.bias"

DAMAGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "missing": (lambda w: w.pop(NAME), f"lacks {NAME}"),
    "extra": (lambda w: w.update(more=torch.zeros(1)), "has unexpected more"),
    "shape": (lambda w: w.update({NAME: torch.zeros(3)}), rf"{NAME} has the shape \(3,\).*asks for \(128,\)"),
    "int8": (lambda w: w.update({NAME: w[NAME].to(torch.int8)}), f"{NAME} is torch.int8, not a float"),
    "nan": (lambda w: w[NAME][-1:].fill_(float("nan")), f"{NAME} has values that are NaN or infinite"),
    "infinity": (lambda w: w[NAME][:1].fill_(-float("inf")), f"{NAME} has values that are NaN or infinite"),
    "quantised": (lambda w: w.update({NAME: w[NAME].to(torch.float8_e4m3fn)}), f"{NAME} is torch.float8_e4m3fn"),
    "stacked": (
        lambda w: rename(w, NAME, "videodit_blocks.layers.self_attention.linear_qkv.weight"),
        "the layout of magi1.1",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named(distilled: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(variant(distilled), tmp_path / "model")
    change, message = DAMAGES[damage]
    edit(tmp_path / "model", lambda weights: (change(weights), None)[1])
    with pytest.raises(MotionCacheError, match=message):
        load_dit(tmp_path / "model", small_config())


def test_a_truncated_shard_a_lost_shard_and_a_compressed_one(distilled: Path, tmp_path: Path) -> None:
    shutil.copytree(variant(distilled), tmp_path / "model")
    shard = tmp_path / "model" / WEIGHTS / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(MotionCacheError, match=r"model-00002-of-00002.safetensors is damaged or incomplete"):
        load_dit(tmp_path / "model", small_config())
    shard.unlink()
    with pytest.raises(MotionCacheError, match="there is no file"):
        load_dit(tmp_path / "model", small_config())
    shard.with_name(f"{shard.name}.zst").write_bytes(b"zst")
    with pytest.raises(MotionCacheError, match="zstd -d"):
        load_dit(tmp_path / "model", small_config())


def test_a_shard_that_lacks_what_the_index_promises(distilled: Path, tmp_path: Path) -> None:
    shutil.copytree(variant(distilled), tmp_path / "model")
    path = tmp_path / "model" / WEIGHTS / "model-00001-of-00002.safetensors"
    weights = load_file(path)
    del weights[NAME]
    save_file(weights, path)
    with pytest.raises(MotionCacheError, match=f"lacks {NAME}, which its index promises"):
        load_dit(tmp_path / "model", small_config())


def test_the_wrong_folder(distilled: Path) -> None:
    with pytest.raises(MotionCacheError, match=r"there is no folder .*inference_weight;"):
        load_dit(variant(distilled), small_config("base"))
    config = small_config()
    quantised = replace(config, engine=replace(config.engine, fp8_quant=True))
    with pytest.raises(MotionCacheError, match=r"there is no folder .*inference_weight.fp8.distill;"):
        load_dit(variant(distilled), quantised)


NO_MAPPINGS = {
    "deep": (b"[" * 100_000, "is damaged and cannot be read as JSON"),
    "latin-1": ('{"name": "caf\xe9"}'.encode("latin-1"), "is damaged and cannot be read as JSON"),
    "text": (b"num_layers: 34", "is damaged and cannot be read as JSON"),
    "list": (b"[1, 2]", "must hold a mapping, not [1, 2]"),
    "null": (b"null", "must hold a mapping, not None"),
}


@pytest.mark.parametrize("kind", NO_MAPPINGS)
def test_a_file_that_holds_no_mapping_is_refused(distilled: Path, tmp_path: Path, kind: str) -> None:
    content, problem = NO_MAPPINGS[kind]
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path} {problem}")):
        MagiConfig.from_file(path)
    with pytest.raises(ConfigError, match=re.escape(f"{path} {problem}")):
        load_vae(tmp_path, torch.float32)
    shutil.copytree(variant(distilled), tmp_path / "model")
    index = tmp_path / "model" / WEIGHTS / "model.safetensors.index.json"
    index.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{index} {problem}")):
        load_dit(tmp_path / "model", small_config())


@pytest.mark.parametrize("weight_map", [None, [], {}, {NAME: 1}, {NAME: "../a.safetensors"}, {NAME: "/etc/passwd"}])
def test_an_index_names_files_beside_it_and_nothing_else(distilled: Path, tmp_path: Path, weight_map: Any) -> None:
    shutil.copytree(variant(distilled), tmp_path / "model")
    index = tmp_path / "model" / WEIGHTS / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ConfigError, match=rf"{index}: weight_map.* must (map|name) .*download it again$"):
        load_dit(tmp_path / "model", small_config())


@pytest.mark.parametrize("size", [2**40, 2**62])
def test_sizes_that_no_memory_holds_are_refused(distilled: Path, size: int) -> None:
    with pytest.raises(MotionCacheError, match=r"no model has the sizes of its configuration \([^\n]+$"):
        load_dit(variant(distilled), small_config(hidden_size=size, ffn_hidden_size=size))


def test_weights_too_large_for_the_dtype_of_the_model_are_refused(distilled: Path, tmp_path: Path) -> None:
    shutil.copytree(variant(distilled), tmp_path / "model")
    edit(tmp_path / "model", lambda weights: weights[NAME][:1].fill_(1e6))
    load_dit(tmp_path / "model", small_config())
    with pytest.raises(MotionCacheError, match=f"{NAME} has values that are NaN or infinite in torch.float16"):
        load_dit(tmp_path / "model", small_config(params_dtype="torch.float16"))


def test_the_autoencoder_is_loaded_as_strictly(distilled: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(distilled / "ckpt" / "vae", tmp_path / "vae")
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    name = min(weights)
    damages = {
        "has unexpected more": {"more": torch.zeros(1)},
        f"{name} is torch.int8": {name: weights[name].to(torch.int8)},
        f"{name} has values that are NaN": {name: torch.full_like(weights[name], float("nan"))},
    }
    for message, change in damages.items():
        save_file({**weights, **change}, folder / "diffusion_pytorch_model.safetensors")
        with pytest.raises(MotionCacheError, match=message):
            load_vae(folder, torch.float32)
    (folder / "config.json").write_text(json.dumps({**VAE, "ddconfig": {**VAE["ddconfig"], "depth": 0}}))
    with pytest.raises(
        ConfigError, match=rf"{folder}/config.json: ddconfig.depth must be a whole number above 0, not 0"
    ):
        load_vae(folder, torch.float32)


@pytest.mark.parametrize(
    ("part", "section", "change", "message"),
    [
        ("vae", "model_config", {"in_channels": 32, "out_channels": 32}, "vae has 16 channels of a latent, .* for 32"),
        ("vae", "runtime_config", {"temporal_downsample_factor": 8}, "vae has 4 frames per latent frame, .* for 8"),
        ("t5", "model_config", {"caption_channels": 32}, "t5 has 16 channels of a caption, .* for 32"),
    ],
)
def test_parts_of_different_models_are_refused(
    distilled: Path, tmp_path: Path, part: str, section: str, change: dict[str, int], message: str
) -> None:
    """The autoencoder and the text encoder are those of `distilled`; the model asks for others."""
    values = json.loads(json.dumps(official_json(small_config())))
    values[section] |= change
    config = MagiConfig.from_dict(values, where="it")
    save_model(tmp_path / "other", config)
    (tmp_path / "other" / "special_tokens.npz").unlink()
    shutil.rmtree(tmp_path / "other" / "ckpt" / part)
    shutil.copytree(distilled / "ckpt" / part, tmp_path / "other" / "ckpt" / part)
    with pytest.raises(MotionCacheError, match=rf"{message}: take the parts of one model"):
        MagiPipeline.from_pretrained(tmp_path / "other")
