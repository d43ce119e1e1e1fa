"""A SkyReels-V2 pipeline of a few thousand random weights: enough to prove equalities, and quick."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
)

from motioncache import MotionCacheConfig
from motioncache_skyreels.opening import identity_of
from motioncache_train.captions import TEXT_DIM, create_tokenizer
from motioncache_train.text import create_text_encoder

from ..calibration import write_calibration

COEFFICIENTS = (1.0, 0.0)
"""Distance = relative change itself, 0.12 to 0.2 a step, so that thresholds are easy to choose."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_transformer(*, fps: bool = True, layers: int = 2, seed: int = 0) -> SkyReelsV2Transformer3DModel:
    torch.manual_seed(seed)
    return SkyReelsV2Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=layers,
        inject_sample_info=fps,
    ).eval()


def make_pipeline(cls: Any = SkyReelsV2DiffusionForcingPipeline, **options: Any) -> Any:
    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4, scale_factor_spatial=4,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(flow_shift=8, use_flow_sigmas=True, prediction_type="flow_prediction")
    pipeline = cls(
        tokenizer=None, text_encoder=None, transformer=make_transformer(**options), vae=vae, scheduler=scheduler
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def pipeline() -> SkyReelsV2DiffusionForcingPipeline:
    return make_pipeline()


def embeddings(seed: int = 7, words: int = 8, batch: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cond, uncond = torch.randn(2, batch, words, 16, generator=generator)
    return {"prompt_embeds": cond, "negative_prompt_embeds": uncond}


def generate(pipeline: Any, *, seed: int = 0, **call: Any) -> torch.Tensor:
    """Latents of a video of 4 chunks of 5 latent frames, 2x4 tokens each, unless `call` says otherwise."""
    options: dict[str, Any] = {
        "prompt": None,
        "height": 16,
        "width": 32,
        "num_frames": 77,
        "base_num_frames": 77,
        "num_inference_steps": 10,
        "guidance_scale": 6.0,
        "ar_step": 3,
        "causal_block_size": 5,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed),
        **embeddings(),
        **call,
    }
    torch.manual_seed(99)
    return pipeline(**options).frames


@pytest.fixture
def config() -> Callable[..., MotionCacheConfig]:
    """A MotionCache that goes through all its phases within a few steps."""

    def make(**changes: Any) -> MotionCacheConfig:
        options: dict[str, Any] = {
            "warmup": 1,
            "chunk_phase_updates": 1,
            "threshold": 0.25,
            "coefficients": COEFFICIENTS,
            "temporal_vote": None,
            "minimum_update_ratio": 0.0,
        }
        return MotionCacheConfig(**{**options, **changes})

    return make


@pytest.fixture
def measured(tmp_path: Path) -> str:
    return write_calibration(tmp_path, identity_of(make_transformer(), 6.0))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with random weights, saved as the official repositories are."""
    tokenizer = create_tokenizer()
    pipeline = make_pipeline()
    torch.manual_seed(0)
    transformer = SkyReelsV2Transformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=4, out_channels=4, text_dim=TEXT_DIM,
        freq_dim=32, ffn_dim=64, num_layers=2, num_frame_per_block=5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    SkyReelsV2DiffusionForcingPipeline(
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]
        text_encoder=create_text_encoder(len(tokenizer)),
        transformer=transformer,
        vae=pipeline.vae,
        scheduler=pipeline.scheduler,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def preset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy for that model, which the presets know no polynomial for."""
    path = tmp_path_factory.mktemp("presets") / "mine.yaml"
    path.write_text(
        "{policy: motioncache, warmup: 1, chunk_phase_updates: 1, threshold: 0.25, coefficients: [1.0, 0.0], "
        "temporal_vote: null, minimum_update_ratio: 0.0}\n"
    )
    return path


SMALL = ["height=16", "width=32", "num_frames=37", "base_num_frames=37", "num_inference_steps=6", "ar_step=2"]
"""Overrides that make a job of two chunks."""
