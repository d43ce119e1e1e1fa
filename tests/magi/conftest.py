"""A MAGI-1 of a few thousand random weights, saved in the layout of the official repository."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig, ModelConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.vae.config import VaeConfig
from motioncache_magi.vae.vit import ViTVAE

CHANNELS, WORDS = 16, 64

SMALL: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 64,
    "ffn_hidden_size": 96,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "kv_channels": 16,
    "params_dtype": "torch.float32",
    "caption_channels": CHANNELS,
    "caption_max_length": WORDS,
}
VAE: dict[str, Any] = {
    "_class_name": "ViTVAE",
    "model_type": "vit",
    "ddconfig": {
        "video_size": 16, "video_length": 8, "patch_size": 8, "patch_length": 4, "in_chans": 3, "z_chans": 16,
        "double_z": True, "embed_dim": 256, "depth": 1, "num_heads": 4, "mlp_ratio": 1, "qkv_bias": True,
        "with_cls_token": True, "norm_code": False, "ln_in_attn": True, "conv_last_layer": True, "use_rope": False,
        "use_final_proj": False, "qk_scale": None, "drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.0,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_config(kind: str = "distill", **model: Any) -> MagiConfig:
    """A released configuration with a small model, video and schedule."""
    config = released(f"4.5B_{kind}")
    runtime = replace(config.runtime, num_frames=48, video_size_h=32, video_size_w=48, num_steps=8)
    return replace(config, model=replace(config.model, **{**SMALL, **model}), runtime=runtime)


def official_json(config: MagiConfig) -> dict[str, Any]:
    return {
        "model_config": asdict(config.model),
        "runtime_config": asdict(config.runtime),
        "engine_config": asdict(config.engine),
    }


def random_dit(config: ModelConfig, seed: int = 0) -> VideoDiT:
    torch.manual_seed(seed)
    model = VideoDiT(config)
    torch.nn.init.normal_(model.y_embedder.null_caption_embedding)
    return model


def save_sharded(folder: Path, weights: dict[str, torch.Tensor], shards: int = 2) -> None:
    """As the official repository does: numbered shards and an index."""
    folder.mkdir(parents=True)
    names = sorted(weights)
    parts = {f"model-{i + 1:05d}-of-{shards:05d}.safetensors": names[i::shards] for i in range(shards)}
    for file, held in parts.items():
        save_file({name: weights[name].contiguous() for name in held}, folder / file)
    weight_map = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def save_model(root: Path, config: MagiConfig) -> Path:
    """A whole model in `root/ckpt`."""
    kind = "distill" if config.engine.distill else "base"
    variant = root / "ckpt" / "magi" / f"4.5B_{kind}"
    weights = "inference_weight.distill" if config.engine.distill else "inference_weight"
    save_sharded(variant / weights, random_dit(config.model).state_dict())
    (variant / "config.json").write_text(json.dumps(official_json(config)))
    vae = root / "ckpt" / "vae"
    vae.mkdir()
    (vae / "config.json").write_text(json.dumps(VAE))
    torch.manual_seed(1)
    save_file(ViTVAE(VaeConfig.from_official(VAE)).state_dict(), vae / "diffusion_pytorch_model.safetensors")
    _save_t5(root / "ckpt" / "t5" / "t5-v1_1-xxl")
    rng = np.random.default_rng(0)
    shapes = {"caption_token": 1, "logo_token": 1, "other_tokens": 100}
    arrays = {name: rng.normal(size=(rows, CHANNELS)) for name, rows in shapes.items()}
    np.savez(root / "special_tokens.npz", allow_pickle=False, **arrays)
    return root


def _save_t5(folder: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "a", "red", "circle", "blue", "square"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(folder)
    torch.manual_seed(2)
    config = T5Config(vocab_size=8, d_model=CHANNELS, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    T5EncoderModel(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("distilled"), small_config("distill"))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"), small_config("base"))
