"""The promises of every adapter on MAGI-1, distilled and base."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache import ForecastConfig
from motioncache.policies.distance import Distance
from motioncache.testing import Promises, Subject
from motioncache_magi.cache.adapter import MagiAdapter
from motioncache_magi.cache.config import Output
from motioncache_magi.cache.flowcache import MagiFlowCacheConfig
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_magi.cache.teacache import MagiTeaCacheConfig
from motioncache_magi.pipeline import MagiPipeline

from ..calibration import write_calibration
from .test_pipeline import load

BASE = MagiMotionCacheConfig(warmup=1, chunk_phase_steps=2, threshold=0.05, token_threshold=0.1)
DISTILLED = replace(BASE, threshold=0.005, token_threshold=0.01)
"""Random weights move the latents of the distilled model, which has no guidance, a tenth as far."""


CHANGES = {
    "warmup": 3,
    "chunk_phase_steps": None,
    "threshold": 0.0,
    "token_threshold": 0.0,
    "distance": Distance.per_token,
    "floor": 0.0,
    "power": 3.0,
    "weights_once": True,
    "reuse_ratio": (0.5, 0.25),
    "temporal_vote": 0.3,
    "output": Output.velocity,
    "refresh_clean": False,
}


@pytest.fixture(scope="module", params=["distilled", "base"])
def pipeline(request: pytest.FixtureRequest) -> MagiPipeline:
    return load(request.getfixturevalue(request.param))


class TestPromises(Promises):
    @pytest.fixture
    def subject(self, pipeline: MagiPipeline, tmp_path: Path) -> Subject:
        measured = write_calibration(tmp_path, identity_of(pipeline.transformer))

        def fresh() -> MagiPipeline:
            return MagiPipeline(
                pipeline.transformer,
                pipeline.vae,
                pipeline.text_encoder,
                pipeline.config,
                special_tokens=pipeline.special_tokens,
            )

        def sample(pipe: MagiPipeline, seed: int, **call: Any) -> torch.Tensor:
            pipe.set_progress_bar_config(disable=True)
            options = {"num_frames": 72, "num_inference_steps": 16, **call}
            noise = torch.Generator().manual_seed(seed)
            return pipe("a red circle", output_type="latent", generator=noise, **options).frames

        return Subject(
            adapter=MagiAdapter(),
            create_pipeline=fresh,
            sample=sample,
            sample_other=lambda pipe: sample(pipe, 0, num_frames=48, height=48, width=32),
            blocks=lambda pipe: list(pipe.transformer.videodit_blocks.layers),
            token_policy=DISTILLED if pipeline.config.engine.distill else BASE,
            everything={"threshold": 0.0, "token_threshold": 0.0},
            nothing={"threshold": 1e9, "token_threshold": 1e9},
            changes=CHANGES,
            elsewhere=("nearly_clean", "kv", "split_guidance"),
            other_policies={
                "flowcache": MagiFlowCacheConfig(warmup=1, threshold=0.05),
                "compressed": MagiFlowCacheConfig(warmup=1, threshold=0.05, past_chunks=1),
                "teacache": MagiTeaCacheConfig(warmup=1, threshold=0.2),
                "forecast": ForecastConfig(target_speedup=2.0, calibration=measured),
            },
            tolerance=1e-5,
        )
