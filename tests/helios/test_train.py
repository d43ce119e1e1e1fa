"""The training code of Helios: the forward is the stock one, and the history is what the pipeline shows the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HeliosPipeline, SkyReelsV2Transformer3DModel

from motioncache_helios.train import transformer as part
from motioncache_helios.train.__main__ import save_pipeline
from motioncache_helios.train.forward import training_forward
from motioncache_skyreels.train.transformer import create_transformer as create_skyreels
from motioncache_skyreels.train.vae import create_vae
from motioncache_train.attention import pad_captions
from motioncache_train.captions import CaptionEncoder, create_tokenizer
from motioncache_train.text import create_text_encoder
from motioncache_train.wan import wan_clip_encoder

from .conftest import generate, make_pipeline


@pytest.fixture
def encode() -> CaptionEncoder:
    tokenizer = create_tokenizer()
    return CaptionEncoder(tokenizer, create_text_encoder(len(tokenizer)))


def test_the_training_forward_equals_the_stock_one(encode: CaptionEncoder) -> None:
    torch.manual_seed(0)
    model = part.create_transformer()
    captions = [encode("a red circle moving left slowly over a gray background"), encode("")]
    latents = torch.randn(2, 8, 27, 8, 8)
    timestep, history = torch.tensor([500.0, 999.0]), part.history_of(latents[:, :, :18])
    text = torch.stack([torch.nn.functional.pad(c, (0, 0, 0, 64 - len(c))) for c in captions])
    with torch.no_grad():
        padded = pad_captions(captions, torch.tensor([64, 64]))
        ours = training_forward(model, latents[:, :, 18:], timestep, history, *padded)
        (stock,) = model(
            latents[:, :, 18:],
            timestep,
            text,
            history.chunk_frames,
            history.short_frames,
            history.mid_frames,
            history.long_frames,
            history.short,
            history.mid,
            history.long,
            return_dict=False,
        )
    assert (ours - stock).abs().max() < 2e-5


def test_the_history_is_what_the_pipeline_shows_the_model() -> None:
    pipeline = make_pipeline()
    seen: list[dict[str, Any]] = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda _, __, call: seen.append(call), with_kwargs=True)
    latents = generate(
        pipeline, num_frames=99, num_inference_steps=2, guidance_scale=1, history_sizes=[16, 2, 1],
        num_latent_frames_per_chunk=9,
    )  # fmt: skip
    hook.remove()
    for chunk in range(3):
        ours, theirs = part.history_of(latents[:, :, : 9 * chunk]), seen[2 * chunk]
        assert torch.equal(ours.chunk_frames, theirs["indices_hidden_states"])
        for name in ("short", "mid", "long"):
            assert torch.equal(getattr(ours, name), theirs[f"latents_history_{name}"]), (chunk, name)
            assert torch.equal(getattr(ours, f"{name}_frames"), theirs[f"indices_latents_history_{name}"])


def test_a_step_trains_on_every_chunk(tmp_path: Path, encode: CaptionEncoder) -> None:
    torch.manual_seed(0)
    model = part.create_transformer()
    clips = wan_clip_encoder(create_vae(), seed=0, device="cpu", chunk=part.CHUNK, apart=True)
    data = clips.load(tmp_path / "clips.pt", clips=1, chunks=3, held_out=False)
    assert data.latents.shape == (1, 8, 27, 16, 24)
    assert data.movers.shape == (1, 27, 16, 24)
    for chunk in range(3):
        rng = np.random.default_rng(0)
        sigma = torch.tensor([0.7])
        loss = part.velocity_loss(model, data, np.array([0]), chunk, data.captions, sigma, rng, encode, "cpu")
        loss.backward()
        assert 0.5 < loss.item() < 20
    assert model.patch_long.weight.grad is not None
    assert model.patch_long.weight.grad.abs().sum() > 0


def test_a_chunk_without_history_begins_as_the_model_that_its_weights_come_from() -> None:
    """Apart from the history, whose tokens are empty, a new model computes what a block-causal one does."""
    torch.manual_seed(0)
    skyreels: SkyReelsV2Transformer3DModel = create_skyreels()
    model = part.create_from_wan(skyreels.state_dict())
    latents, text = torch.randn(1, 8, 5, 8, 8), torch.randn(1, 6, 64)
    with torch.no_grad():
        theirs = skyreels(latents, torch.full((1, 5), 500), text, enable_diffusion_forcing=True, return_dict=False)[0]
        ours = model(latents, torch.tensor([500]), text, torch.arange(5)[None], return_dict=False)[0]
    assert (ours - theirs).abs().max() < 2e-5


def test_the_saved_pipeline_loads_as_the_official_one_does(tmp_path: Path) -> None:
    tokenizer = create_tokenizer()
    save_pipeline(
        tmp_path,
        transformer=part.create_transformer(),
        vae=create_vae(),
        tokenizer=tokenizer,
        text_encoder=create_text_encoder(len(tokenizer)),
    )
    pipeline = HeliosPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert pipeline.transformer.dtype == torch.bfloat16
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 8e6
