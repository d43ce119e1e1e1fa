"""The paper's video is sampled with values as well, by diffusers' own pipeline and every method's stand-in."""

from typing import Any

import pytest
import torch

from motioncache_eval.paper import EXACT, METHODS, VANILLA
from motioncache_skyreels.measure import create_transformer
from motioncache_skyreels.paper import random_pipeline, sampler

from .test_long_videos import SMALL

CALL: dict[str, Any] = {
    "height": 32, "width": 48, "num_frames": 97, "base_num_frames": 57, "overlap_history": 17, "ar_step": 2,
    "addnoise_condition": 20, "causal_block_size": 5, "num_inference_steps": 8, "output_type": "latent",
    "guidance_scale": 6.0,
}  # fmt: skip


def sample(method: str) -> torch.Tensor:
    pipeline = random_pipeline(create_transformer(SMALL, torch.float32), "cpu")
    torch.manual_seed(3)
    return sampler(pipeline, method, "cpu", CALL)().frames


@pytest.fixture(scope="module")
def vanilla() -> torch.Tensor:
    return sample(VANILLA)


@pytest.mark.parametrize("method", METHODS[1:])
def test_every_method_samples_with_random_weights(method: str, vanilla: torch.Tensor) -> None:
    latents = sample(method)
    assert latents.shape == vanilla.shape
    assert latents.isfinite().all()
    assert ((latents - vanilla).abs().max() < 2e-5 * vanilla.abs().max()) == (method == EXACT)
