"""What a calibration is made of, without a model."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from motioncache.errors import ConfigError
from motioncache.forecast.calibration import ModelIdentity
from motioncache_eval import calibrate
from motioncache_eval.calibrate import Exact

SIGMAS = tuple(np.linspace(1.0, 0.1, 8).tolist())


@dataclass(frozen=True)
class Job:
    prompt: str = ""
    seed: int = 0
    num_inference_steps: int = 8


def exact(job: Job, *scales: float) -> Exact:
    """A video whose chunks have these products, up to their scale."""
    sigmas = SIGMAS[:: 8 // job.num_inference_steps]
    products = {chunk: scale * np.eye(len(sigmas)) for chunk, scale in enumerate(scales)}
    return Exact(job=job, latents=torch.zeros(1), products=products, values_per_chunk=1, sigmas=sigmas)


def made(monkeypatch: pytest.MonkeyPatch, sample: Any) -> Any:
    """A calibration of two prompts, and the videos that the sensitivity is measured in."""
    shorter: list[Exact] = []

    def measure(model: Any, videos: list[Exact], _: Any) -> Any:
        shorter.extend(videos)
        return np.ones(8)

    monkeypatch.setattr(calibrate, "sample_exact", sample)
    monkeypatch.setattr(calibrate, "measure_sensitivity", measure)
    model: Any = SimpleNamespace(job=Job(), identity=ModelIdentity(1, 1, weights=()))
    return calibrate.calibrate(model, ["a", "b"]), shorter


def test_products_are_means_over_chunks_and_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    result, shorter = made(monkeypatch, lambda _, job: exact(job, *{"a": (1.0, 3.0), "b": (8.0,)}[job.prompt]))
    assert result.products == pytest.approx(4 * np.eye(8))
    assert [video.job.num_inference_steps for video in shorter] == [4, 4]
    assert len({video.job.seed for video in shorter}) == 2


def test_where_half_of_the_steps_cannot_be_sampled_all_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(_: Any, job: Job) -> Exact:
        if job.num_inference_steps == 4:
            raise ConfigError("4 steps are none of mine")
        return exact(job, 1.0)

    _, shorter = made(monkeypatch, sample)
    assert [video.job.num_inference_steps for video in shorter] == [8, 8]
    assert "4 steps are none of mine: measuring with all 8 steps" in capsys.readouterr().out
