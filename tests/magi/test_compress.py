"""Clean keys compressed to a fixed number: which are kept, and that nothing else changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import motioncache
from motioncache import MotionCacheError
from motioncache_magi.cache.config import Output
from motioncache_magi.cache.flowcache import MagiFlowCacheConfig, key_scores
from motioncache_magi.pipeline import MagiPipeline

from .test_pipeline import generator, load

FLOW = MagiFlowCacheConfig(warmup=1, threshold=0.02, output=Output.velocity)


def test_scores_by_hand() -> None:
    # Two heads of queries look at one head of keys; keys 0 and 1 are alike, key 9 is the only other direction.
    key = torch.zeros(10, 1, 2)
    key[:, 0, 0] = 1.0
    key[9, 0] = torch.tensor([0.0, 2.0])
    query = torch.tensor([[[0.5, 0.0], [0.0, 4.0]]])
    logits = torch.tensor([[0.5] * 9 + [8.0]]) / 2**0.5  # the higher of the two heads
    attended = logits.softmax(dim=1)[0]
    attended[6:9] = attended[9]  # within three of the important key
    cosines = torch.tensor([8.0] * 9 + [0.0]) / 10
    expected = 0.3 * attended - 0.7 * cosines.softmax(dim=0)
    assert torch.allclose(key_scores(query, key, 0.3)[0], expected, atol=1e-6)


@pytest.fixture(params=["distilled", "base"])
def pipe(request: pytest.FixtureRequest) -> MagiPipeline:
    """Sees all of the past."""
    pipeline = load(request.getfixturevalue(request.param))
    runtime = replace(pipeline.config.runtime, noise2clean_kvrange=(), clean_chunk_kvrange=-1)
    pipeline.config = replace(pipeline.config, runtime=runtime)
    return pipeline


def latents(pipe: MagiPipeline, **call: Any) -> torch.Tensor:
    options = {"num_frames": 168, "output_type": "latent", "generator": generator(), "num_inference_steps": 8, **call}
    return pipe("a red circle", **options).frames


def rows_held(pipe: MagiPipeline, config: MagiFlowCacheConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any]:
    """Chunks that the KV cache has room for, and the latents."""
    from motioncache_magi.sampling import stores

    made: list[int] = []

    class Watched(stores.MovingKVCache):
        def __init__(self, **options: Any) -> None:
            made.append(options["rows"])
            super().__init__(**options)

    with monkeypatch.context() as patch, motioncache.cached(pipe, config):
        patch.setattr(stores, "MovingKVCache", Watched)
        video = latents(pipe)
    return made[0], video


def test_room_for_everything_changes_nothing(pipe: MagiPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_rows, plain = rows_held(pipe, FLOW, monkeypatch)
    rows, video = rows_held(pipe, replace(FLOW, past_chunks=7), monkeypatch)
    assert rows == plain_rows
    assert torch.equal(video, plain)


def test_less_room_is_kept_to_and_stays_nearer_than_forgetting(
    pipe: MagiPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_rows, plain = rows_held(pipe, FLOW, monkeypatch)
    rows, video = rows_held(pipe, replace(FLOW, past_chunks=1), monkeypatch)
    assert rows < plain_rows
    assert video.isfinite().all()
    chunks = (video - plain).square().mean(dim=(0, 1, 3, 4)).unflatten(0, (7, -1)).mean(dim=1)
    assert (chunks[:2] == 0).all()  # until two chunks are clean there is room for all
    assert (chunks[5:] > 0).all()


def test_given_frames_are_compressed_too(distilled: Path) -> None:
    pipe = load(distilled)
    given = torch.zeros(73, 32, 48, 3, dtype=torch.uint8).numpy()
    with motioncache.cached(pipe, replace(FLOW, past_chunks=1)):
        assert latents(pipe, video=given, num_frames=72).isfinite().all()


def test_it_goes_with_no_behaviour_that_leaves_clean_chunks_as_they_are() -> None:
    with pytest.raises(MotionCacheError, match="past_chunks: 2 is out of range; allowed: null without refresh_clean"):
        MagiFlowCacheConfig(past_chunks=2, refresh_clean=False)
    with pytest.raises(MotionCacheError, match="past_chunks: 0"):
        MagiFlowCacheConfig(past_chunks=0)
