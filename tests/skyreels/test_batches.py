"""Several videos in one call: each is what it would be alone, or the call is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError, TeaCacheConfig

from .conftest import COEFFICIENTS, embeddings, generate, make_pipeline

Make = Callable[..., MotionCacheConfig]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alone(policy: Any, texts: dict[str, torch.Tensor]) -> torch.Tensor:
    """The videos of a batch, each in a call of its own."""
    made = []
    for index in range(2):
        pipeline = make_pipeline(fps=False)
        motioncache.enable_cache(pipeline, policy)
        own = {name: text[index : index + 1] for name, text in texts.items()}
        made.append(generate(pipeline, **own, generator=seeded(index)))
    return torch.cat(made)


@pytest.mark.parametrize("name", ["exact", "forecast", "teacache", "whole chunks"])
def test_a_video_does_not_depend_on_its_neighbours(name: str, config: Make, measured: str) -> None:
    policies: dict[str, Any] = {
        "exact": "exact",
        "forecast": ForecastConfig(target_speedup=3.0, calibration=measured),
        "teacache": TeaCacheConfig(warmup=1, threshold=1.0, coefficients=COEFFICIENTS),
        "whole chunks": config(chunk_phase_updates=None, threshold=1.0),
    }
    texts = embeddings(batch=2)
    pipeline = make_pipeline(fps=False)
    motioncache.enable_cache(pipeline, policies[name])
    together = generate(pipeline, **texts, generator=[seeded(0), seeded(1)])
    assert (together - alone(policies[name], texts)).abs().max() < 2e-4
    assert name == "exact" or motioncache.summary(pipeline).hit_ratio > 0.1


@pytest.mark.parametrize("batch", [{}, {"num_videos_per_prompt": 2}])
def test_a_batch_whose_videos_would_mix_is_refused_before_any_work(batch: dict[str, Any], config: Make) -> None:
    pipeline = make_pipeline(fps=False)
    motioncache.enable_cache(pipeline, config())
    calls: list[int] = []
    pipeline.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    texts = embeddings(batch=1 if batch else 2)
    with pytest.raises(MotionCacheError, match="this call samples 2 videos at once"):
        generate(pipeline, **texts, **batch)
    assert calls == []
    generate(pipeline)
