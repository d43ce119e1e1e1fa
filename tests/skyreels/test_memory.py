"""The estimate of memory is what is allocated, where that can be checked."""

from typing import Any

import pytest
import torch

import motioncache
from motioncache import MotionCacheConfig
from motioncache.api import get_hook
from motioncache.kv_cache import KVCache
from motioncache_eval.memory import GIB
from motioncache_skyreels.memory import memory, released_footprints

from .conftest import COEFFICIENTS, generate


def test_keys_and_values_are_those_that_are_allocated(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated: list[int] = []

    class Watched(KVCache):
        def __init__(self, **sizes: Any) -> None:
            super().__init__(**sizes)
            allocated.append(self._buffer.nbytes)

    monkeypatch.setattr("motioncache_skyreels.opening.KVCache", Watched)
    with motioncache.cached(pipeline, MotionCacheConfig(coefficients=COEFFICIENTS)):
        generate(pipeline)
        assert get_hook(pipeline).engine.trace.windows
    # This autoencoder makes one latent of 4 pixels, where the released one takes 8.
    estimate = memory(pipeline.transformer, "tiny", height=32, width=64, num_frames=77, itemsize=4)
    assert allocated == [estimate.kv_cache]
    assert estimate.transformer == sum(one.nbytes for one in pipeline.transformer.parameters())


def test_the_released_models_have_the_known_sizes() -> None:
    footprints = {one.name: one for one in released_footprints()}
    small = footprints["SkyReels-V2 1.3B-540P, 544x960, 97 frames"]
    large = footprints["SkyReels-V2 14B-540P, 544x960, 97 frames"]
    assert round(small.kv_cache / GIB, 1) == 17.5
    assert round(large.kv_cache / GIB, 1) == 77.8
    assert round(footprints["SkyReels-V2 14B-540P, 544x960, 57 frames"].kv_cache / GIB, 1) == 46.7
    assert 1.2e9 < small.transformer / 2 < 1.5e9
    assert 13e9 < large.transformer / 2 < 15e9
    assert 0.28 < small.outputs / GIB < 0.30


def test_the_constants_of_the_encoders_are_those_of_their_classes() -> None:
    from diffusers import AutoencoderKLWan
    from transformers import UMT5Config, UMT5EncoderModel

    from motioncache_skyreels.memory import AUTOENCODER_PARAMETERS, TEXT_ENCODER_PARAMETERS

    config = UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        encoder, autoencoder = UMT5EncoderModel(config), AutoencoderKLWan()
    assert sum(one.numel() for one in encoder.parameters()) == TEXT_ENCODER_PARAMETERS
    assert sum(one.numel() for one in autoencoder.parameters()) == AUTOENCODER_PARAMETERS
