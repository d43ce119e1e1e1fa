"""Quantised layers are called, and their weights never read."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, TeaCacheConfig
from motioncache.step_distance import StepDistance
from motioncache_skyreels.opening import identity_of

from .conftest import COEFFICIENTS, generate, make_pipeline

DISTANCE = MotionCacheConfig(coefficients=COEFFICIENTS)


class Packed(nn.Module):
    """A linear layer as GGUF and 4-bit formats have it: bytes of another shape, which only its forward can read."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.scale = float(weight.abs().amax()) / 127
        self.shape = weight.shape
        values = (weight / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(values.flatten().view(torch.uint8), requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.view(torch.int8).view(self.shape).to(x.dtype) * self.scale
        return nn.functional.linear(x, weight, self.bias)


def quantise(transformer: nn.Module) -> None:
    layers = {name: module for name, module in transformer.named_modules() if type(module) is nn.Linear}
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(transformer.get_submodule(parent), last, Packed(layer))


def quantise_by_torchao(transformer: nn.Module) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(transformer, torchao.Int8WeightOnlyConfig())


@pytest.fixture(params=[quantise, quantise_by_torchao])
def quantised(request: pytest.FixtureRequest) -> Any:
    pipeline = make_pipeline()
    request.param(pipeline.transformer)
    return pipeline


def test_every_policy_runs_and_exact_equals_vanilla(
    quantised: Any, config: Callable[..., MotionCacheConfig], measured: str
) -> None:
    vanilla = generate(quantised)
    with motioncache.cached(quantised, "exact"):
        assert (generate(quantised) - vanilla).abs().max() < 2e-5
    teacache = TeaCacheConfig(warmup=1, threshold=0.25, coefficients=COEFFICIENTS)
    for policy in (config(), teacache, ForecastConfig(target_speedup=3.0, calibration=measured)):
        with motioncache.cached(quantised, policy) as statistics:
            generate(quantised)
        assert 0.05 < statistics.summary().hit_ratio < 0.95


def test_distances_are_those_of_the_weights_that_the_layers_apply(quantised: Any) -> None:
    plain = StepDistance(make_pipeline().transformer, DISTANCE, 1)
    packed = StepDistance(quantised.transformer, DISTANCE, 1)
    for t in (999, 700, 300):
        assert packed.relative_change((t,), (t - 60,)) == pytest.approx(
            plain.relative_change((t,), (t - 60,)), rel=0.02
        )


def test_weights_that_cannot_be_compared_identify_nothing(quantised: Any) -> None:
    assert identity_of(quantised.transformer, 6.0).weights == ()
    assert len(identity_of(make_pipeline().transformer, 6.0).weights) == 16


def test_a_lora_on_the_time_projection_is_part_of_the_distance() -> None:
    transformer = make_pipeline().transformer
    adapted = copy.deepcopy(transformer)
    torch.manual_seed(5)
    adapted.add_adapter(LoraConfig(r=4, lora_alpha=64, target_modules=["time_proj"], init_lora_weights=False))
    before = StepDistance(transformer, DISTANCE, 1).modulation((500,))
    after = StepDistance(adapted, DISTANCE, 1).modulation((500,))
    _, expected, _, _ = adapted.condition_embedder(torch.tensor([500]), torch.zeros(1, 1, 16), None)
    fps = adapted.fps_projection(adapted.fps_embedding(torch.tensor([1])))
    assert (after.flatten() - (expected + fps).flatten()).abs().max() < 1e-5
    assert (after - before).abs().max() > 1e-2
