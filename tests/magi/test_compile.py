"""Compiled transformers give what they give uncompiled, in two graphs, with a cache and without."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch._dynamo.utils import counters

import motioncache
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling.options import MemoryOptions

from ..compiling import BACKEND, wrap
from .test_cache import CACHE, latents
from .test_pipeline import load

pytestmark = pytest.mark.usefixtures("fresh_compiler")


@pytest.fixture(scope="module")
def loaded(distilled: Path, base: Path) -> dict[str, MagiPipeline]:
    return {"distilled": load(distilled), "base": load(base)}


WAYS: dict[str, Callable[[Any], object]] = {
    "model": lambda pipe: pipe.transformer.compile(backend=BACKEND),
    "blocks": lambda pipe: pipe.transformer.compile_repeated_blocks(backend=BACKEND, fullgraph=True),
    "wrapped": wrap,
}


@pytest.mark.parametrize(("way", "before"), [("model", True), ("blocks", False), ("wrapped", False)])
def test_it_is_compiled_before_or_after_the_cache_is_enabled(
    way: str, before: bool, loaded: dict[str, MagiPipeline]
) -> None:
    pipe = copy.deepcopy(loaded["distilled"])
    expected = latents(pipe)
    if before:
        WAYS[way](pipe)
    with motioncache.cached(pipe, "exact"):
        if not before:
            WAYS[way](pipe)
        assert (latents(pipe) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert counters["stats"]["unique_graphs"] == 2
    assert (latents(pipe) - expected).abs().max() < 1e-5 * expected.abs().max()  # without a cache
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize(("kind", "at_once"), [("distilled", 1), ("base", 3)])
def test_a_policy_that_chooses_tokens_takes_two_graphs(
    kind: str, at_once: int | None, loaded: dict[str, MagiPipeline]
) -> None:
    pipe = copy.deepcopy(loaded[kind])
    pipe._options = MemoryOptions(chunks_at_once=at_once)
    with motioncache.cached(pipe, CACHE):
        expected = latents(pipe)
    pipe.transformer.compile(backend=BACKEND)
    with motioncache.cached(pipe, CACHE) as statistics:
        assert (latents(pipe) - expected).abs().max() < 1e-4 * expected.abs().max()
    assert statistics.summary().hit_ratio > 0.05
    assert counters["stats"]["unique_graphs"] == 2


def test_a_copy_is_not_compiled(loaded: dict[str, MagiPipeline]) -> None:
    pipe = copy.deepcopy(loaded["distilled"])
    pipe.transformer.compile(backend=BACKEND)
    other = copy.deepcopy(pipe)
    expected = latents(other)
    assert counters["stats"]["unique_graphs"] == 0
    assert (latents(pipe) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert counters["stats"]["unique_graphs"] == 2
