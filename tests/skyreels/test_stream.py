"""A streamed video is the called one, chunk by chunk, and each chunk is there before the next is sampled."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingVideoToVideoPipeline

import motioncache
from motioncache import MotionCacheConfig, MotionCacheError

from ..streamed import Streamed
from .conftest import embeddings, generate, make_pipeline

Make = Callable[..., MotionCacheConfig]

FEW: dict[str, Any] = {
    "prompt": None, "height": 16, "width": 32, "num_frames": 77, "num_inference_steps": 4, "ar_step": 3,
    "causal_block_size": 5, "output_type": "latent", **embeddings(),
}  # fmt: skip
LONG = {"num_frames": 97, "base_num_frames": 57, "overlap_history": 17, "addnoise_condition": 20.0}
CALLS: dict[str, dict[str, Any]] = {"one window": {}, "in step": {"ar_step": 0}, "windows": LONG}


def streamed(pipeline: Any, **call: Any) -> Any:
    return generate(Streamed(pipeline), **call)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("cached", [False, True])
def test_the_chunks_together_are_the_video(name: str, cached: bool, config: Make) -> None:
    pipeline = make_pipeline()
    if cached:
        motioncache.enable_cache(pipeline, config())
    whole = generate(pipeline, **CALLS[name])
    chunks = streamed(pipeline, **CALLS[name])
    assert len(chunks) == {"one window": 4, "in step": 1, "windows": 5}[name]
    assert torch.equal(torch.cat(chunks, dim=1), whole[0])


@pytest.mark.parametrize("output_type", ["np", "pt"])
def test_the_frames_are_those_of_the_call(output_type: str) -> None:
    pipeline = make_pipeline()
    chunks = streamed(pipeline, output_type=output_type, num_inference_steps=2, guidance_scale=1.0)
    whole = generate(pipeline, output_type=output_type, num_inference_steps=2, guidance_scale=1.0)[0]
    assert [len(chunk) for chunk in chunks] == [17, 20, 20, 20]
    np.testing.assert_allclose(np.concatenate([np.asarray(c) for c in chunks]), np.asarray(whole), atol=1e-6)


def test_a_given_video_is_streamed_with_what_is_added() -> None:
    pipeline = make_pipeline(SkyReelsV2DiffusionForcingVideoToVideoPipeline)
    call = {
        "video": list(torch.rand(17, 3, 16, 32, generator=torch.Generator().manual_seed(3))),
        "num_frames": 57,
        "base_num_frames": 57,
        "overlap_history": 17,
    }
    whole = generate(pipeline, **call)
    assert torch.equal(torch.cat(streamed(pipeline, **call), dim=1), whole[0])


def test_a_chunk_is_there_before_the_next_is_sampled() -> None:
    taken = threading.Event()

    def wait(_: Any, iteration: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if iteration == FEW["num_inference_steps"]:  # the first chunk has taken all its steps
            assert taken.wait(60), "the first chunk was not handed out"
        return tensors

    sampling = motioncache.stream(make_pipeline(), **FEW, callback_on_step_end=wait)
    assert next(sampling).shape[1] == 5
    taken.set()
    assert [chunk.shape[1] for chunk in sampling] == [5, 5, 5]


def test_closing_the_iterator_leaves_the_pipeline_as_it_was(config: Make) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config())
    before = generate(pipeline)
    sampling = motioncache.stream(pipeline, **FEW)
    next(sampling)
    sampling.close()
    assert torch.equal(generate(pipeline), before)


def test_what_a_call_raises_reaches_whoever_iterates() -> None:
    with pytest.raises(ValueError, match="height"):
        list(motioncache.stream(make_pipeline(), **{**FEW, "height": 17}))


def test_a_callback_is_still_called_and_may_change_the_latents() -> None:
    def halve(_: Any, iteration: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        assert list(tensors) == ["latents"]
        return {"latents": tensors["latents"] / 2} if iteration == 9 else tensors

    pipeline = make_pipeline()
    whole = generate(pipeline, callback_on_step_end=halve)
    assert torch.equal(torch.cat(streamed(pipeline, callback_on_step_end=halve), dim=1), whole[0])
    assert not torch.equal(generate(pipeline), whole)


def test_pictures_are_refused_before_anything_is_sampled() -> None:
    with pytest.raises(MotionCacheError, match="output_type='pil' cannot be streamed: pass np, pt, latent"):
        motioncache.stream(make_pipeline(), prompt="a", output_type="pil")


def test_two_videos_at_once_are_refused() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    with pytest.raises(MotionCacheError, match="2 videos cannot be streamed at once: pass one prompt"):
        streamed(pipeline, **embeddings(batch=2))


def test_tiles_are_refused_before_anything_is_sampled() -> None:
    pipeline = make_pipeline()
    pipeline.vae.enable_tiling()
    with pytest.raises(MotionCacheError, match=r"call vae.disable_tiling"):
        motioncache.stream(pipeline, prompt="a")


def test_another_pipeline_is_refused() -> None:
    with pytest.raises(MotionCacheError, match="no adapter serves a dict"):
        motioncache.stream({})
