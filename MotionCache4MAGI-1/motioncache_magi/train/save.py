"""Writes a trained model in the layout of the official repository."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.train.vae import OFFICIAL_CONFIG
from motioncache_magi.vae.vit import ViTVAE
from motioncache_train.captions import TEXT_DIM


def create_text_encoder(vocabulary: int, seed: int = 0) -> T5EncoderModel:
    """Create a small T5 v1.1 with frozen random weights, rounded to bfloat16 as in its file."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=TEXT_DIM,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval().requires_grad_(False).bfloat16().float()


def save_vae(folder: Path, vae: ViTVAE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(OFFICIAL_CONFIG, indent=1) + "\n")
    _save(vae, folder / "diffusion_pytorch_model.safetensors")


def save_dit(variant: Path, model: VideoDiT, config: MagiConfig) -> None:
    """Write the weights, and the configuration beside their folder."""
    folder = variant / ("inference_weight.distill" if config.engine.distill else "inference_weight")
    folder.mkdir(parents=True, exist_ok=True)
    _save(model, folder / "model.safetensors")
    sections = {"model_config": config.model, "runtime_config": config.runtime, "engine_config": config.engine}
    text = json.dumps({name: asdict(section) for name, section in sections.items()}, indent=1)
    (variant / "config.json").write_text(text + "\n")


def save_text(folder: Path, tokenizer: PreTrainedTokenizerFast, encoder: T5EncoderModel) -> None:
    encoder.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 5 writes its internal name of the tokenizer's class; every version can load the public name.
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


def _save(model: torch.nn.Module, path: Path) -> None:
    weights = {name: tensor.to("cpu", torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, path)
