"""Compiled transformers give what they give uncompiled, in two graphs, whenever they are compiled."""

from collections.abc import Callable
from typing import Any

import pytest
from torch._dynamo.utils import counters

import motioncache
from motioncache.policies.motioncache import MotionCacheConfig

from ..compiling import BACKEND, wrap
from .conftest import generate, make_pipeline

pytestmark = pytest.mark.usefixtures("fresh_compiler")


SIZE = {"num_frames": 57, "base_num_frames": 57}

WAYS: dict[str, Callable[[Any], object]] = {
    "blocks": lambda pipe: pipe.transformer.compile_repeated_blocks(backend=BACKEND, dynamic=True, fullgraph=True),
    "model": lambda pipe: pipe.transformer.compile(backend=BACKEND),
    "wrapped": wrap,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_it_is_compiled_before_or_after_the_cache_is_enabled(way: str, before: bool) -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, "exact"):
        expected = generate(pipeline, **SIZE)
    if before:
        WAYS[way](pipeline)
    motioncache.enable_cache(pipeline, "exact")
    if not before:
        WAYS[way](pipeline)
    assert (generate(pipeline, **SIZE) - expected).abs().max() < 2e-5
    assert counters["stats"]["unique_graphs"] == 2
    inner = getattr(pipeline.transformer, "_orig_mod", pipeline.transformer)
    motioncache.disable_cache(pipeline)
    assert (inner._compiled_call_impl is not None) == (way == "model")
    assert (inner.blocks[0]._compiled_call_impl is not None) == (way == "blocks")


def test_a_policy_that_chooses_tokens_takes_two_graphs(config: Callable[..., MotionCacheConfig]) -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, config()):
        expected = generate(pipeline, **SIZE)
    pipeline.transformer.compile_repeated_blocks(backend=BACKEND, dynamic=True)
    with motioncache.cached(pipeline, config()) as statistics:
        assert (generate(pipeline, **SIZE) - expected).abs().max() < 2e-5
    assert statistics.summary().hit_ratio > 0.05
    assert counters["stats"]["unique_graphs"] == 2
