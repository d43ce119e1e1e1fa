"""The estimate of memory is what is allocated, where that can be checked."""

from pathlib import Path
from typing import Any

import pytest
import torch

import motioncache
from motioncache_magi.loading.variants import released
from motioncache_magi.memory import memory
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling.kv_layout import MovingKVCache


@pytest.mark.parametrize("kind", ["distilled", "base"])
def test_keys_and_values_are_those_that_are_allocated(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: Path = request.getfixturevalue(kind)
    allocated: list[int] = []

    class Watched(MovingKVCache):
        def __init__(self, **sizes: Any) -> None:
            super().__init__(**sizes)
            allocated.append(self._buffer.nbytes)

    monkeypatch.setattr("motioncache_magi.sampling.stores.MovingKVCache", Watched)
    pipeline = MagiPipeline.from_pretrained(folder)
    with motioncache.cached(pipeline, "slow"):
        pipeline("a red circle", generator=torch.Generator().manual_seed(0), output_type="latent")
    estimate = memory(pipeline.config, kind)
    assert allocated == [estimate.kv_cache]
    assert estimate.transformer == sum(one.nbytes for one in pipeline.transformer.parameters())


def test_the_released_models_have_the_known_sizes() -> None:
    assert memory(released("4.5B_distill"), "").transformer == 2 * 4_459_898_128
    assert memory(released("24B_base"), "").transformer == 2 * 23_899_281_936
