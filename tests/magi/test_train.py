"""The training code: the sampler's own arithmetic, with gradients, saved in the official layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.packed import Text
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling.guidance import Guidance
from motioncache_magi.sampling.sampler import Sampler, Settings
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.sampling.step import Step
from motioncache_magi.train import transformer as part
from motioncache_magi.train import vae as vae_part
from motioncache_magi.train.__main__ import main
from motioncache_magi.train.distill import distillation_loss, distilled_config
from motioncache_magi.train.forward import training_forward
from motioncache_magi.train.save import create_text_encoder, save_dit, save_text, save_vae
from motioncache_magi.train.transformer import clip_chunks, create_dit, draw_step, tiny_config, velocity_loss
from motioncache_magi.train.vae import _loss, create_vae, scale_factor
from motioncache_train.captions import CaptionEncoder, create_tokenizer
from motioncache_train.loop import TrainConfig

from .conftest import small_config
from .test_pipeline import load


@pytest.fixture(scope="module")
def encode() -> CaptionEncoder:
    tokenizer = create_tokenizer()
    return CaptionEncoder(tokenizer, create_text_encoder(len(tokenizer)))


def test_the_training_forward_predicts_what_the_sampler_integrates(base: Path) -> None:
    """A step of the sampler with two chunks in the window, against the training forward of the same works."""
    pipe = load(base)
    model = pipe.transformer.requires_grad_(True)
    noise = torch.randn(16, 12, 4, 6, generator=torch.Generator().manual_seed(0))
    step = list(WindowSchedule(chunks=2, prefix_chunks=0, steps=8, window=4, ranges=(5, 4, 3, 2), clean_range=1))[3]
    null = Text(model.embed_text(model.y_embedder.null_caption_embedding[:50]).detach())
    times = [0.05 * i for i in range(9)]
    clip = clip_chunks(noise, noise, step, times, null, null, alone=False)
    ours = training_forward(model, [clip, clip])
    assert len(ours) == 2 * len(step.window)
    assert torch.allclose(ours[0], ours[2], atol=1e-6)  # clips of a batch do not see each other
    sampler_latents = _sampler_velocity(pipe, noise, step, times, null)
    assert torch.allclose(torch.cat(ours[:2], dim=1), sampler_latents, atol=1e-4)
    sum(velocity.sum() for velocity in ours).backward()  # pyright: ignore[reportAttributeAccessIssue]
    gradient = model.videodit_blocks.layers[0].self_attention.linear_qkv.k.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def _sampler_velocity(
    pipe: MagiPipeline, noise: torch.Tensor, step: Step, times: list[float], null: Text
) -> torch.Tensor:
    """Velocity without text (scale 1 for the past, 0 for the text), from one step of the sampler."""
    schedule = WindowSchedule(chunks=2, prefix_chunks=0, steps=8, window=4, ranges=(5, 4, 3, 2), clean_range=1)
    guidance = replace(Guidance.of(pipe.config), past=(1.0,) * 5, text=(0.0,) * 5)
    fixed = Settings(
        schedule=schedule,
        times=torch.tensor(times),
        guidance=guidance,
        chunk_frames=6,
        clean_time=0.9999,
        distilled=False,
    )
    start = noise.clone()
    sampler = Sampler(pipe.transformer, fixed, start, prefix=None, captions=[null] * 2, null=null)
    before = start.clone()
    sampler.step(step)
    return ((start - before) / 0.05).clone()


def test_times_follow_the_window_schedule() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        step, times = draw_step(rng, 4, rng.uniform(), 16)
        assert all(0 <= times[count] < 1 for count in step.counts)
        assert list(step.counts) == sorted(step.counts, reverse=True)  # older chunks are cleaner
        noise, clean = torch.randn(2, 16, 24, 4, 4)
        text, null = Text(torch.zeros(1, 4)), Text(torch.zeros(1, 4))
        chunks = clip_chunks(clean, noise, step, times, text, null, alone=False)
        assert sum(chunk.counts for chunk in chunks) == len(step.window)
        assert all(0 <= chunk.seen[0] < chunk.seen[1] <= len(chunks) for chunk in chunks)
        if step.window.start > 0:
            assert not chunks[0].counts  # the clean chunk before the window
            assert torch.equal(chunks[0].latents, clean[:, :6] if step.window.start == 1 else chunks[0].latents)
        alone = clip_chunks(clean, noise, step, times, null, null, alone=True)
        assert [chunk.seen for chunk in alone] == [(i, i + 1) for i in range(len(step.window))]
        assert all(chunk.dropped and chunk.position == 0 for chunk in alone)


def test_a_step_trains_on_one_chunk_and_on_a_window(tmp_path: Path, encode: CaptionEncoder) -> None:
    torch.manual_seed(0)
    model = create_dit(tiny_config(1.0))
    clips = part.clip_encoder(create_vae().eval(), scale=1.0, seed=0, device="cpu")
    for chunks in (1, 2):
        data = clips.load(tmp_path / f"{chunks}.pt", clips=2, chunks=chunks, held_out=False)
        assert data.latents.shape == (2, 16, 6 * chunks, 16, 24)
        rng = np.random.default_rng(0)
        loss = velocity_loss(model, data, np.array([0, 1]), data.captions, rng, encode, "cpu")
        loss.backward()
        assert 0.1 < loss.item() < 50
    single = part.single_chunks(data)
    assert len(single) == single.latents.shape[0] == single.movers.shape[0] == 4
    assert torch.equal(single.latents[3], data.latents[1, :, 6:])
    assert torch.equal(single.movers[2], data.movers[1, :6])
    assert single.captions[1] == data.captions[0]
    assert model.rope.bands.grad is not None
    assert model.y_embedder.null_caption_embedding.grad is not None


def test_a_student_of_the_base_model_sees_what_guidance_adds(tmp_path: Path, encode: CaptionEncoder) -> None:
    torch.manual_seed(0)
    teacher = create_dit(tiny_config(1.0))
    clips = part.clip_encoder(create_vae().eval(), scale=1.0, seed=0, device="cpu")
    data = clips.load(tmp_path / "2.pt", clips=2, chunks=2, held_out=False)
    guidance = Guidance.of(tiny_config(1.0))

    def loss(guidance: Guidance) -> torch.Tensor:
        rng = np.random.default_rng(0)
        student = VideoDiT(teacher.config)
        student.load_state_dict(teacher.state_dict())
        value = distillation_loss(student, teacher, guidance, data, np.array([0, 1]), rng, encode, "cpu")
        value.backward()
        assert student.t_embedder.mlp[0].weight.grad is not None  # pyright: ignore
        return value.detach()

    plain = replace(guidance, past=(1.0,) * 5, text=(1.0,) * 5)  # the branch with text alone
    assert 0 < loss(plain) < loss(guidance)
    assert distilled_config(tiny_config(1.0)).engine.distill


def test_the_autoencoder_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_part, "BATCH", 1)
    torch.manual_seed(0)
    vae = create_vae()
    config = TrainConfig(folder=tmp_path, steps=8, peak_lr=1e-3, adam_lr=1e-3)
    optimizer = torch.optim.Adam(vae.parameters(), 2e-3)
    losses = []
    for _ in range(6):
        loss = _loss(vae, 0, config)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert 0.1 < scale_factor(vae, config, clips=2) < 100


def test_a_saved_model_loads_like_the_official_ones(tmp_path: Path) -> None:
    tokenizer = create_tokenizer()
    config = tiny_config(0.5)
    save_vae(tmp_path / "vae", create_vae())
    save_dit(tmp_path / "magi" / "base", create_dit(config), config)
    save_text(tmp_path / "t5" / "t5-v1_1-xxl", tokenizer, create_text_encoder(len(tokenizer)))
    pipe = load(tmp_path)
    assert pipe.config == config
    video = pipe("a red circle resting over a teal background", num_frames=24, num_inference_steps=4).frames
    assert video.shape == (1, 24, 64, 96, 3)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 16e6


def test_the_transformer_needs_an_autoencoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transformer", "--steps", "1", "--runs", str(tmp_path)]) == 2
    assert "train one first" in capsys.readouterr().err


def test_the_tiny_model_is_of_the_official_class() -> None:
    with torch.device("meta"):
        model = VideoDiT(tiny_config(1.0).model)
    assert model.state_dict().keys() >= {"x_embedder.weight", "videodit_blocks.layers.5.mlp.linear_fc2.weight"}
    assert small_config("base").engine == tiny_config(1.0).engine
