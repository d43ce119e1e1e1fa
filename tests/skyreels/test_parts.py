"""Many rows pass a block part by part, with the same result."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

import motioncache
from motioncache import MotionCacheConfig, NoCacheConfig
from motioncache_eval.measured_memory import MemorySettings, measure
from motioncache_skyreels import packed, parts
from motioncache_skyreels.measure import TRANSFORMER, create_autoencoder, create_transformer, sample_window
from motioncache_skyreels.parts import parts_of

from .conftest import generate, make_pipeline
from .test_measure import TINY

SHORT: dict[str, Any] = {"num_frames": 57, "base_num_frames": 57, "num_inference_steps": 6, "ar_step": 2}


def bounds(branches: dict[str, slice], frames: int, rows: int, most: int) -> list[tuple[str, int, int, list[int]]]:
    found = parts_of(branches, torch.arange(frames), rows, most)
    return [(part.branch, part.rows.start, part.rows.stop, part.frames.tolist()) for part in found]


def test_parts_have_whole_latent_frames_of_one_branch() -> None:
    branches = {"cond": slice(0, 12), "uncond": slice(12, 20)}  # 4 rows a frame
    assert bounds(branches, 5, 20, 9) == [("cond", 0, 8, [0, 1]), ("cond", 8, 12, [2]), ("uncond", 12, 20, [3, 4])]
    assert [found[2] for found in bounds(branches, 5, 20, 3)] == [4, 8, 12, 16, 20]
    assert [found[3] for found in bounds({"cond": slice(0, 5)}, 5, 5, 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("kind", ["whole chunks", "tokens"])
def test_a_video_is_the_same(
    kind: str, config: Callable[..., MotionCacheConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = config() if kind == "tokens" else NoCacheConfig()
    results, calls = [], []
    original = parts.block_in_parts
    monkeypatch.setattr(parts, "block_in_parts", lambda *args: calls.append(args[2].shape[1]) or original(*args))
    for most in (10**9, 24):
        monkeypatch.setattr(packed, "MOST_ROWS", most)
        pipeline = make_pipeline()
        with motioncache.cached(pipeline, policy):
            results.append(generate(pipeline, **SHORT))
        assert bool(calls) == (most == 24)
    assert (results[0] - results[1]).abs().max() < 2e-5
    assert min(calls) > 24


def test_a_part_holds_less() -> None:
    """What is alive of a block besides its input and its result, counted without content."""
    settings = MemorySettings(
        height=256, width=384, num_frames=57, base_num_frames=57, preset="exact", synchronous=True
    )
    peaks = []
    for most in (10**9, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packed, "MOST_ROWS", most)
            transformer, vae = create_transformer(TINY, torch.float32), create_autoencoder()
            stage = measure("sampling", {TRANSFORMER: transformer}, partial(sample_window, transformer, vae, settings))
            peaks.append(stage.bytes)
    assert peaks[1] < 0.6 * peaks[0]
