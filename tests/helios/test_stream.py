"""A streamed Helios video is the called one, chunk by chunk."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HeliosPyramidPipeline

import motioncache
from motioncache import MotionCacheConfig, MotionCacheError

from ..streamed import Streamed
from .conftest import generate, make_pipeline


def streamed(pipeline: Any, **call: Any) -> Any:
    return generate(Streamed(pipeline), **call)


def test_the_chunks_together_are_the_video(config: Callable[..., MotionCacheConfig]) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config())
    whole = generate(pipeline)
    chunks = streamed(pipeline)
    assert [chunk.shape[1] for chunk in chunks] == [3, 3]
    assert torch.equal(torch.cat(chunks, dim=1), whole[0])


def test_the_frames_are_those_of_the_call() -> None:
    pipeline = make_pipeline()
    chunks = streamed(pipeline, output_type="np", num_inference_steps=2)
    whole = generate(pipeline, output_type="np", num_inference_steps=2)[0]
    assert [len(chunk) for chunk in chunks] == [9, 9]
    assert len(whole) == 17  # the call drops what exceeds 4 n + 1 frames
    np.testing.assert_allclose(np.concatenate(chunks)[:17], np.asarray(whole), atol=1e-6)


def test_a_pyramid_is_refused_by_name() -> None:
    with pytest.raises(MotionCacheError, match="HeliosPyramidPipeline"):
        motioncache.stream(make_pipeline(HeliosPyramidPipeline), prompt="a")
