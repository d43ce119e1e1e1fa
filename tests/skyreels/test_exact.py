"""The `exact` tier equals the pipeline as diffusers ships it, up to float rounding."""

from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingVideoToVideoPipeline

import motioncache
from motioncache.record import Phase

from .conftest import embeddings, generate, make_pipeline

ROUNDING = 2e-5

CALLS: dict[str, dict[str, Any]] = {
    "asynchronous": {},
    "without guidance": {"guidance_scale": 1.0},
    "fps 16": {"fps": 16},
    "short lag": {"ar_step": 1},
    "lag of a whole schedule": {"ar_step": 10},
    "synchronous, block-causal": {"ar_step": 0},
    "synchronous, full attention": {"ar_step": 0, "causal_block_size": 1},
    "two windows": {"num_frames": 137, "overlap_history": 17},
    "prefix of two chunks": {"num_frames": 137, "overlap_history": 37},
    "shorter last window": {"num_frames": 117, "overlap_history": 17},
    "two windows, full attention": {"num_frames": 117, "overlap_history": 17, "ar_step": 0, "causal_block_size": 1},
    "one chunk": {"num_frames": 17, "base_num_frames": 17},
    "another chunk size": {"num_frames": 61, "base_num_frames": 61, "causal_block_size": 4},
}


@pytest.mark.parametrize("name", CALLS)
def test_exact_equals_vanilla(name: str) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline, **CALLS[name])
    with motioncache.cached(pipeline, "exact"):
        exact = generate(pipeline, **CALLS[name])
    assert vanilla.abs().mean() > 0.1
    assert (vanilla - exact).abs().max() < ROUNDING


def test_a_batch_of_prompts_equals_vanilla() -> None:
    pipeline = make_pipeline(fps=False)  # diffusers itself fails for batches with frame rates
    call = embeddings(batch=2)
    vanilla = generate(pipeline, **call)
    with motioncache.cached(pipeline, "exact"):
        assert (vanilla - generate(pipeline, **call)).abs().max() < ROUNDING


def test_given_latents_are_frozen_with_one_draw_of_noise_per_window(monkeypatch: pytest.MonkeyPatch) -> None:
    # diffusers draws new noise for the given latents at every iteration; with one draw a window both agree.
    call = {"num_frames": 137, "overlap_history": 17, "addnoise_condition": 20}
    drawn: dict[torch.Size, torch.Tensor] = {}
    original = torch.randn_like
    monkeypatch.setattr(torch, "randn_like", lambda x, **k: drawn.setdefault(x.shape, original(x, **k)))
    pipeline = make_pipeline()
    vanilla = generate(pipeline, **call)
    drawn.clear()
    with motioncache.cached(pipeline, "exact"):
        assert (vanilla - generate(pipeline, **call)).abs().max() < ROUNDING


@pytest.mark.parametrize("call", [{}, {"num_frames": 137}, {"ar_step": 0, "causal_block_size": 1}])
def test_video_to_video_equals_vanilla(call: dict[str, Any]) -> None:
    pipeline = make_pipeline(SkyReelsV2DiffusionForcingVideoToVideoPipeline)
    video = torch.rand(21, 3, 16, 32, generator=torch.Generator().manual_seed(3))
    options = {"video": video, "overlap_history": 17, **call}
    vanilla = generate(pipeline, **options)
    with motioncache.cached(pipeline, "exact"):
        assert (vanilla - generate(pipeline, **options)).abs().max() < ROUNDING


def test_chunks_run_only_while_they_are_denoised_and_once_more_when_they_are_clean() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    generate(pipeline)
    records = [r for r in motioncache.api.get_hook(pipeline).engine.trace.records if r.branch == "cond"]
    for chunk in range(4):
        mine = [r for r in records if r.chunk == chunk]
        assert [r.step for r in mine if r.denoises] == list(range(10))
        assert [r.phase for r in mine if not r.denoises] == ([Phase.finished] if chunk < 3 else [])
        assert {r.attended for r in mine} == {(chunk + 1) * 5 * 8}


def test_half_precision_differs_no_more_than_half_precision_itself_does() -> None:
    pipeline = make_pipeline()
    reference = generate(pipeline)
    pipeline.transformer.to(torch.bfloat16)
    vanilla = generate(pipeline)
    with motioncache.cached(pipeline, "exact"):
        exact = generate(pipeline)
    rounding = (vanilla - reference).square().mean().sqrt()
    assert (exact - vanilla).square().mean().sqrt() < 2 * rounding


def test_callers_that_are_not_diffusion_forcing_pass_through() -> None:
    pipeline = make_pipeline()
    latents = torch.randn(1, 4, 5, 4, 8, generator=torch.Generator().manual_seed(0))
    call = {"encoder_hidden_states": embeddings()["prompt_embeds"], "fps": [1], "return_dict": False}
    with torch.inference_mode():
        before = pipeline.transformer(latents, torch.tensor([500]), **call)[0]
        with motioncache.cached(pipeline, "exact"):
            inside = pipeline.transformer(latents, torch.tensor([500]), **call)[0]
            forced = pipeline.transformer(latents, torch.full((1, 5), 500), enable_diffusion_forcing=True, **call)[0]
        outside = pipeline.transformer(latents, torch.full((1, 5), 500), enable_diffusion_forcing=True, **call)[0]
    assert torch.equal(before, inside)
    assert torch.equal(forced, outside)
