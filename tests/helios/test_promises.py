"""The promises of every adapter on Helios, and what this model promises besides."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, NoCacheConfig, TeaCacheConfig
from motioncache.motion import Normalisation
from motioncache.testing import Promises, Subject
from motioncache_helios.adapter import HeliosAdapter

from .conftest import COEFFICIENTS, embeddings, generate, make_pipeline

Make = Callable[..., MotionCacheConfig]


class TestPromises(Promises):
    @pytest.fixture
    def subject(self, config: Make, measured: str) -> Subject:
        return Subject(
            adapter=HeliosAdapter(),
            create_pipeline=make_pipeline,
            sample=lambda pipeline, seed: generate(pipeline, seed=seed),
            sample_other=lambda pipeline: generate(pipeline, height=32, num_frames=9, num_latent_frames_per_chunk=2),
            blocks=lambda pipeline: pipeline.transformer.blocks,
            step_calls=lambda iteration: 2,  # a call for each CFG branch, as in the pipeline
            token_policy=config(),
            everything={"threshold": 0.0},
            nothing={"threshold": 1e9, "warmup": 1},
            changes={
                "warmup": 3,
                "chunk_phase_updates": 4,
                "threshold": 0.4,
                "coefficients": (0.5, 0.0),
                "fit_range": (0.0, 0.05),
                "normalisation": Normalisation.mean,
                "floor": 0.0,
                "temporal_vote": 0.5,
                "minimum_update_ratio": 0.5,
                "shared_mask": True,
            },
            elsewhere=("distance", "clamp_distance", "kv", "split_guidance"),
            other_policies={
                "forecast": ForecastConfig(target_speedup=3.0, calibration=measured),
                "teacache": TeaCacheConfig(warmup=1, coefficients=COEFFICIENTS, threshold=0.4),
            },
        )


def test_exact_is_the_pipeline_itself_for_every_kind_of_transformer() -> None:
    kinds = [
        {"guidance_cross_attn": False},
        {"zero_history_timestep": False},
        {"is_amplify_history": True},
        {"is_amplify_history": True, "history_scale_mode": "scalar"},
    ]
    for options in kinds:
        pipeline = make_pipeline(**options)
        uncached = generate(pipeline, num_frames=18, num_inference_steps=3)
        with motioncache.cached(pipeline, NoCacheConfig(), adapter=HeliosAdapter()):
            assert (generate(pipeline, num_frames=18, num_inference_steps=3) - uncached).abs().max() < 2e-6, options


@pytest.mark.parametrize(
    "given",
    [
        {"image": torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(3))},
        {"video": np.random.default_rng(3).random((1, 18, 16, 32, 3), dtype=np.float32)},
        {"guidance_scale": 1.0},
        {"num_frames": 40},
        embeddings(batch=2),
    ],
    ids=["image", "video", "no guidance", "five chunks", "two prompts"],
)
def test_exact_is_the_pipeline_itself_for_every_kind_of_call(given: dict[str, Any]) -> None:
    pipeline = make_pipeline()
    call = {"num_inference_steps": 3, "num_frames": 18, **given}
    uncached = generate(pipeline, **call)
    with motioncache.cached(pipeline, NoCacheConfig(), adapter=HeliosAdapter()) as statistics:
        assert (generate(pipeline, **call) - uncached).abs().max() < 2e-6
    assert len(statistics.summary().chunks) == -(-call["num_frames"] // 9)
