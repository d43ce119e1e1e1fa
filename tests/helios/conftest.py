"""A Helios pipeline of a few thousand random weights: enough to prove equalities, and quick."""

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, HeliosPipeline, HeliosScheduler, HeliosTransformer3DModel

from motioncache import MotionCacheConfig
from motioncache_helios.opening import identity_of

from ..calibration import write_calibration

COEFFICIENTS = (1.0, 0.0)
"""Distance = relative change itself, so that thresholds are easy to choose."""

VIDEO = {"history_sizes": [4, 2, 1], "num_latent_frames_per_chunk": 3}
"""A chunk of 3 latent frames, 9 frames; history at all resolutions."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter as `pyproject.toml` registers it, also where the package was installed before it did."""
    point = EntryPoint("helios", "motioncache_helios.adapter:HeliosAdapter", "motioncache.adapters")
    monkeypatch.setattr("motioncache.registry.entry_points", lambda group: [point])


def make_transformer(*, layers: int = 2, seed: int = 0, **options: Any) -> HeliosTransformer3DModel:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4}
    sizes |= {"text_dim": 16, "freq_dim": 32, "ffn_dim": 48, "rope_dim": (4, 4, 4), "num_layers": layers}
    return HeliosTransformer3DModel(**sizes, **options).eval()


def make_pipeline(cls: Any = HeliosPipeline, **options: Any) -> Any:
    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4, scale_factor_spatial=4,
    )  # fmt: skip
    pipeline = cls(
        tokenizer=None,
        text_encoder=None,
        transformer=make_transformer(**options),
        vae=vae,
        scheduler=HeliosScheduler(stages=1, use_dynamic_shifting=True),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def embeddings(seed: int = 7, words: int = 8, batch: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cond, uncond = torch.randn(2, batch, words, 16, generator=generator)
    return {"prompt_embeds": cond, "negative_prompt_embeds": uncond}


def generate(pipeline: Any, *, seed: int = 0, **call: Any) -> torch.Tensor:
    """Latents of a video of 2 chunks of 3 latent frames, 2x4 tokens each, unless `call` says otherwise."""
    options: dict[str, Any] = {
        "prompt": None,
        "height": 16,
        "width": 32,
        "num_frames": 18,
        "num_inference_steps": 10,
        "guidance_scale": 5.0,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed),
        **VIDEO,
        **embeddings(),
        **call,
    }
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
    return write_calibration(tmp_path, identity_of(make_transformer(), 5.0))
