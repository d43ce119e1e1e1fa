"""The training code: exact forward, resumable to the bit, and in the format of the official repositories."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingPipeline

from motioncache_skyreels.train import transformer as part
from motioncache_skyreels.train.__main__ import save_pipeline
from motioncache_skyreels.train.forward import training_forward
from motioncache_skyreels.train.vae import _decoder_loss, create_vae, decode_unclamped, freeze_encoder
from motioncache_train.attention import pad_captions
from motioncache_train.captions import CaptionEncoder, create_tokenizer
from motioncache_train.loop import TrainConfig, train
from motioncache_train.text import create_text_encoder
from motioncache_train.wan import wan_clip_encoder


@pytest.fixture
def encode() -> CaptionEncoder:
    tokenizer = create_tokenizer()
    return CaptionEncoder(tokenizer, create_text_encoder(len(tokenizer)))


def test_the_training_forward_equals_the_stock_one(encode: CaptionEncoder) -> None:
    torch.manual_seed(0)
    model = part.create_transformer()
    captions = [encode("a red circle moving left slowly over a gray background"), encode("")]
    latents = torch.randn(2, 8, 10, 8, 8)
    timestep = torch.tensor([[0, 500], [300, 999]])
    padded = torch.tensor([64, 64])
    text = torch.stack([torch.nn.functional.pad(c, (0, 0, 0, 64 - len(c))) for c in captions])
    with torch.no_grad():
        ours = training_forward(model, latents, timestep, *pad_captions(captions, padded))
        stock = model(
            latents, timestep.repeat_interleave(5, 1), text, enable_diffusion_forcing=True, return_dict=False
        )[0]
    assert (ours - stock).abs().max() < 1e-5
    assert type(model.blocks[0].attn1.processor).__name__ == "SkyReelsV2AttnProcessor"  # put back


def test_the_unclamped_decoder_equals_the_stock_one_inside_the_range() -> None:
    torch.manual_seed(0)
    vae = create_vae()
    latents = torch.randn(1, 8, 3, 4, 4)
    with torch.no_grad():
        assert torch.equal(decode_unclamped(vae, latents).clamp(-1, 1), vae.decode(latents).sample)


def test_training_the_decoder_leaves_the_latents_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = freeze_encoder(create_vae())
    config = TrainConfig(folder=tmp_path, steps=1, peak_lr=1e-3, adam_lr=1e-3)
    losses = _decoder_loss(vae, 0, config)
    losses["loss"].backward()
    trained = {name.split(".")[0] for name, p in vae.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {"decoder", "post_quant_conv"}
    assert set(losses) == {"loss", "l1", "mse"}


def toy_run(folder: Path, steps: int, stop: int | None = None) -> tuple[dict[str, torch.Tensor], list[Any]]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 2))
    config = TrainConfig(
        folder=folder,
        steps=steps,
        peak_lr=0.02,
        adam_lr=0.02,
        ema_decay=0.5,
        log_every=1,
        validate_every=4,
        checkpoint_every=4,
    )

    def loss(step: int) -> dict[str, torch.Tensor]:
        if step == stop:
            raise KeyboardInterrupt
        x = torch.from_numpy(np.random.default_rng(step).standard_normal((16, 4), dtype=np.float32))
        return {"loss": (model(x) - x[:, :2] * 2).square().mean()}

    @torch.no_grad()
    def validate(averaged: torch.nn.Module) -> dict[str, float]:
        x = torch.from_numpy(np.random.default_rng(1000).standard_normal((64, 4), dtype=np.float32))
        return {"error": float((averaged(x) - x[:, :2] * 2).square().mean())}

    averaged = train(model, config, loss=loss, validate=validate)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return averaged.state_dict(), log


def test_a_resumed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    straight, log = toy_run(tmp_path / "straight", 12)
    with pytest.raises(KeyboardInterrupt):
        toy_run(tmp_path / "broken", 12, stop=8)
    resumed, _ = toy_run(tmp_path / "broken", 12)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    errors = [record["validation_error"] for record in log if "validation_error" in record]
    assert len(errors) == 3
    assert errors[-1] < errors[0]
    assert (tmp_path / "straight" / "log.png").stat().st_size > 1000


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    config = TrainConfig(folder=Path(), steps=100, peak_lr=1, adam_lr=1, warmup=0.1, decay_from=0.5)
    assert [config.learning_rate(step) for step in (0, 9, 30, 75, 100)] == pytest.approx([0.1, 1, 1, 0.5, 0])


def test_timesteps_follow_the_staircase_of_asynchronous_sampling() -> None:
    rng = np.random.default_rng(0)
    sigmas = np.stack([part._staircase(rng, 5) for _ in range(200)])
    assert (np.diff(sigmas, axis=1) >= -1e-9).all()  # later chunks have more noise
    assert ((sigmas > 0) & (sigmas < 1)).any(axis=1).all()  # something is being denoised
    assert (sigmas == 0).any()
    assert (sigmas == 1).any()


def test_a_step_trains_on_one_chunk_and_on_five(tmp_path: Path, encode: CaptionEncoder) -> None:
    torch.manual_seed(0)
    vae, model = create_vae(), part.create_transformer()
    for chunks in (1, 5):
        clips = wan_clip_encoder(vae, seed=0, device="cpu", chunk=part.CHUNK)
        data = clips.load(tmp_path / f"{chunks}.pt", clips=2, chunks=chunks, held_out=False)
        assert data.latents.shape == (2, 8, 5 * chunks, 16, 24)
        assert data.movers.shape == (2, 5 * chunks, 16, 24)
        again = clips.load(tmp_path / "again.pt", clips=2, chunks=chunks, held_out=False)
        (tmp_path / "again.pt").unlink()
        assert torch.equal(again.latents, data.latents)
        rng = np.random.default_rng(0)
        sigma = part.draw_timesteps(rng, 2, chunks)
        loss = part.velocity_loss(model, data, np.array([0, 1]), data.captions, sigma, rng, encode, "cpu")
        loss.backward()
        assert 0.5 < loss.item() < 20
    assert model.blocks[0].attn1.to_q.weight.grad.abs().sum() > 0


def test_the_saved_pipeline_loads_as_the_official_ones_do(tmp_path: Path) -> None:
    tokenizer = create_tokenizer()
    save_pipeline(
        tmp_path,
        transformer=part.create_transformer(),
        vae=create_vae(),
        tokenizer=tokenizer,
        text_encoder=create_text_encoder(len(tokenizer)),
    )
    pipeline = SkyReelsV2DiffusionForcingPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        "a red circle", height=16, width=32, num_frames=17, num_inference_steps=2, output_type="np"
    ).frames
    assert frames.shape == (1, 17, 16, 32, 3)
