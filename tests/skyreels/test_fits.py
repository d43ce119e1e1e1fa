"""A window that cannot fit on the GPU is refused before it is sampled, with settings that fit."""

from typing import Any

import pytest
import torch

import motioncache
from motioncache import MotionCacheConfig, MotionCacheError, NoCacheConfig
from motioncache.config import KVStorage, PolicyConfig
from motioncache.grid import TokenGrid
from motioncache.record import WindowShape
from motioncache_eval.memory import GIB
from motioncache_skyreels import fits
from motioncache_skyreels.fits import check_fits
from motioncache_skyreels.memory import RELEASED, create_empty

from .conftest import generate, make_pipeline

SHAPE = WindowShape(
    grid=TokenGrid(frames=25, height=34, width=60, chunk_frames=5),
    iterations=70,
    branches=("cond", "uncond"),
    causal=True,
)


def check(policy: PolicyConfig, free: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """A window of the 1.3B model at 540P, with so many GiB free."""
    monkeypatch.setattr(fits, "free_memory", lambda _: free * GIB)
    latents = torch.empty(1, 16, 25, 68, 120, dtype=torch.bfloat16, device="meta")
    check_fits(create_empty(RELEASED["1.3B-540P"][0]), latents, SHAPE, policy, **{"synchronous": False, **options})


@pytest.mark.parametrize(
    ("policy", "free", "remedies"),
    [
        (MotionCacheConfig(), 17, "kv='int8' or base_num_frames=77"),
        (MotionCacheConfig(), 12, "kv='int8' or base_num_frames=37"),
        (MotionCacheConfig(kv=KVStorage.int8), 8, "kv='host' or base_num_frames=57"),
        (NoCacheConfig(), 13, "kv='int8' or base_num_frames=77"),
    ],
)
def test_the_error_names_what_fits(
    policy: PolicyConfig, free: int, remedies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = (
        rf"^a window of 97 frames needs \d+ GiB besides the weights, and {free} GiB of meta are free: pass {remedies}$"
    )
    with pytest.raises(MotionCacheError, match=found):
        check(policy, free, monkeypatch)


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    check(MotionCacheConfig(), 24, monkeypatch)
    check(NoCacheConfig(), 17, monkeypatch)
    check(NoCacheConfig(), 6, monkeypatch, synchronous=True)
    check(MotionCacheConfig(), 12, monkeypatch, shares=2)


def test_nothing_is_known_of_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fits.free_memory(torch.device("cpu")) is None


def test_a_call_is_refused_at_its_first_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline()
    monkeypatch.setattr(fits, "free_memory", lambda _: 10_000)
    with motioncache.cached(pipeline, "exact"), pytest.raises(MotionCacheError, match="a window of 77 frames needs"):
        generate(pipeline)
