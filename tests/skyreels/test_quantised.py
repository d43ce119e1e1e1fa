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
from motioncache.config import KVStorage
from motioncache.plain import is_plain
from motioncache.step_distance import StepDistance
from motioncache_skyreels.opening import identity_of

from .conftest import COEFFICIENTS, generate, make_pipeline

DISTANCE = MotionCacheConfig(coefficients=COEFFICIENTS)

SHORT: dict[str, Any] = {"num_frames": 37, "base_num_frames": 37, "num_inference_steps": 8, "ar_step": 2}


class Packed(nn.Module):
    """A linear layer as GGUF and 4-bit formats have it: bytes of another shape, which only its forward can read."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.scale = float(weight.abs().amax()) / 127
        self.shape = weight.shape
        values = (weight / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(values.flatten().view(torch.uint8), requires_grad=False)
        self.bias: nn.Parameter | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.view(torch.int8).view(self.shape).to(x.dtype) * self.scale
        return nn.functional.linear(x, weight, self.bias)


def quantise(transformer: nn.Module) -> None:
    replace_linear(transformer, Packed)


def quantise_by_torchao(transformer: nn.Module) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(transformer, torchao.Int8WeightOnlyConfig())


def quantise_to_fp8(transformer: nn.Module) -> None:
    torchao = pytest.importorskip("torchao.quantization")
    torchao.quantize_(transformer, torchao.Float8WeightOnlyConfig())


def quantise_to_int8_by_bitsandbytes(transformer: nn.Module) -> None:
    layers = pytest.importorskip("bitsandbytes").nn

    def create(layer: nn.Linear) -> nn.Module:
        new = layers.Linear8bitLt(layer.in_features, layer.out_features, has_fp16_weights=False)
        new.weight = layers.Int8Params(layer.weight.data.clone(), requires_grad=False, has_fp16_weights=False)
        return new

    replace_linear(transformer, create)


def quantise_to_4_bits_by_bitsandbytes(transformer: nn.Module) -> None:
    layers = pytest.importorskip("bitsandbytes").nn

    def create(layer: nn.Linear) -> nn.Module:
        new = layers.Linear4bit(layer.in_features, layer.out_features, quant_type="nf4", compute_dtype=torch.float32)
        new.weight = layers.Params4bit(layer.weight.data.clone(), False, quant_type="nf4")
        return new

    replace_linear(transformer, create)


def quantise_to_gguf(transformer: nn.Module) -> None:
    gguf = pytest.importorskip("gguf")
    from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter

    kind = gguf.GGMLQuantizationType.Q8_0

    def create(layer: nn.Linear) -> nn.Module:
        new = GGUFLinear(layer.in_features, layer.out_features, bias=True, compute_dtype=torch.float32)
        packed = torch.from_numpy(gguf.quantize(layer.weight.detach().numpy(), kind))
        new.weight = GGUFParameter(packed, quant_type=kind)  # pyright: ignore[reportAttributeAccessIssue]  # pyright: ignore
        return new

    replace_linear(transformer, create, where=lambda layer: layer.in_features % 32 == 0)  # its blocks have 32 values


def replace_linear(
    transformer: nn.Module,
    create: Callable[[nn.Linear], nn.Module],
    where: Callable[[nn.Linear], bool] = lambda layer: True,
) -> None:
    layers = {name: module for name, module in transformer.named_modules() if type(module) is nn.Linear}
    for name, layer in layers.items():
        if where(layer):
            parent, _, last = name.rpartition(".")
            new = create(layer)
            new.bias = layer.bias
            setattr(transformer.get_submodule(parent), last, new.to("cpu"))


WAYS = [
    quantise,
    quantise_by_torchao,
    quantise_to_fp8,
    quantise_to_int8_by_bitsandbytes,
    quantise_to_4_bits_by_bitsandbytes,
    quantise_to_gguf,
]


@pytest.fixture(params=WAYS)
def quantised(request: pytest.FixtureRequest) -> Any:
    pipeline = make_pipeline()
    request.param(pipeline.transformer)
    return pipeline


def test_every_policy_runs_and_exact_equals_vanilla(
    quantised: Any, config: Callable[..., MotionCacheConfig], measured: str
) -> None:
    vanilla = generate(quantised, **SHORT)
    with motioncache.cached(quantised, "exact"):
        error = (generate(quantised, **SHORT) - vanilla).abs().max()
    rounds_rows = "Linear8bitLt" in str(quantised.transformer)  # to int8, where a value may fall on either side
    assert error < (0.05 if rounds_rows else 2e-5)
    teacache = TeaCacheConfig(warmup=1, threshold=0.25, coefficients=COEFFICIENTS)
    flowcache = config(chunk_phase_updates=None, kv=KVStorage.int8)
    forecast = ForecastConfig(target_speedup=2.0, calibration=measured, kv=KVStorage.host)
    for policy in (config(), flowcache, teacache, forecast):
        with motioncache.cached(quantised, policy) as statistics:
            assert generate(quantised, **SHORT).isfinite().all()
        assert 0.05 < statistics.summary().hit_ratio < 0.95


def test_distances_are_those_of_the_weights_that_the_layers_apply(quantised: Any) -> None:
    plain = StepDistance(make_pipeline().transformer, DISTANCE, 1)
    packed = StepDistance(quantised.transformer, DISTANCE, 1)
    precision = 0.2 if "4bit" in str(quantised.transformer) else 0.02
    for t in (999, 700, 300):
        assert packed.relative_change((t,), (t - 60,)) == pytest.approx(
            plain.relative_change((t,), (t - 60,)), rel=precision
        )


def test_weights_that_cannot_be_compared_identify_nothing(quantised: Any) -> None:
    assert len(identity_of(quantised.transformer, 6.0).weights) == 16 * is_plain(quantised.transformer.proj_out.weight)
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
