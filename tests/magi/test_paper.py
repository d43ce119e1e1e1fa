"""The paper's video is sampled with values as well, by every method's stand-in."""

import pytest

from motioncache_eval.paper import METHODS
from motioncache_magi.paper import sampler, with_values
from motioncache_magi.weightless import create_transformer

from .test_speed import config_of


@pytest.mark.parametrize("method", METHODS[1:])
def test_every_method_samples_with_random_weights(method: str) -> None:
    config = config_of("distill", num_frames=48, num_steps=16)
    model = with_values(create_transformer(config).to_empty(device="cpu"))
    latents = sampler(model, config, method, "cpu")()
    assert latents.isfinite().all()
    assert latents.abs().max() > 0
