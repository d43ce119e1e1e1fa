"""Checkpoints in the layout of the official fp8 weights: what they hold, what is computed with it, what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import motioncache
from motioncache.errors import MotionCacheError
from motioncache_magi.loading.checkpoint import load_dit
from motioncache_magi.loading.variants import released
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.fp8 import FP8, Fp8Linear, fp8_layers, hold_fp8
from motioncache_magi.pipeline import MagiPipeline

from .conftest import random_dit, save_sharded, small_config
from .test_pipeline import load

LAYER = "videodit_blocks.layers.1."
PROJECTION, QUERY = f"{LAYER}self_attention.linear_proj", f"{LAYER}self_attention.linear_qkv.q"
QUANTISED = {
    *(f"self_attention.linear_qkv.{name}" for name in ("q", "qx", "k", "v")),
    *("self_attention.linear_proj", "mlp.linear_fc1", "mlp.linear_fc2"),
}

Weights = dict[str, torch.Tensor]


def fp8_config() -> MagiConfig:
    config = small_config("distill", num_layers=3)
    return replace(config, engine=replace(config.engine, fp8_quant=True))


def official(config: MagiConfig) -> tuple[Weights, Weights]:
    """The tensors of a random fp8 checkpoint, and the weights that they stand for."""
    weights = random_dit(config.model).state_dict()
    plain = dict(weights)
    for name in QUANTISED:
        weight = weights.pop(f"{LAYER}{name}.weight")
        inputs = weight.shape[1]
        smoothed = name in ("self_attention.linear_proj", "mlp.linear_fc2")
        smooth = torch.rand(inputs) + 0.5
        weight_scale = (weight * smooth if smoothed else weight).abs().amax() / 448
        values = ((weight * smooth if smoothed else weight) / weight_scale).to(FP8)
        # y = (x / s) W^T * input_scale * weight_scale, with s as `input_scale`, or `smooth_scale` on its own grid
        scale = torch.tensor([0.25])
        stored = {"weight": values[None], "weight_scale": weight_scale[None]}
        if smoothed:
            stored |= {"input_scale": scale, "smooth_scale": smooth[None] * scale}
        else:
            stored |= {"input_scale": scale.expand(inputs).clone()}
        weights |= {f"{LAYER}{name}.{key}": value for key, value in stored.items()}
        dequantised = values.float() * weight_scale
        plain[f"{LAYER}{name}.weight"] = dequantised / smooth if smoothed else dequantised
    return weights, plain


def save(root: Path, change: Callable[[Weights], object] = lambda weights: None) -> tuple[Path, Weights]:
    weights, plain = official(fp8_config())
    change(weights)
    save_sharded(root / "inference_weight.fp8.distill", weights)
    return root, plain


def test_the_layout_is_the_official_one() -> None:
    with torch.device("meta"):
        model = hold_fp8(VideoDiT(released("24B_distill_quant").model))
    assert {name.split(".", 3)[3] for name in fp8_layers(model)} == QUANTISED
    assert {int(name.split(".")[2]) for name in fp8_layers(model)} == set(range(1, 47))
    fc2 = model.get_submodule("videodit_blocks.layers.1.mlp.linear_fc2").state_dict()
    shapes = {name: (tuple(x.shape), x.dtype) for name, x in fc2.items()}
    assert shapes == {
        "weight": ((1, 6144, 16384), FP8),
        "weight_scale": ((1,), torch.float32),
        "input_scale": ((1,), torch.float32),
        "smooth_scale": ((1, 16384), torch.float32),
    }
    query = model.get_submodule("videodit_blocks.layers.1.self_attention.linear_qkv.q").state_dict()
    assert tuple(query["input_scale"].shape) == (6144,)
    assert "smooth_scale" not in query


def test_weights_are_dequantised_on_load(tmp_path: Path) -> None:
    folder, plain = save(tmp_path)
    model = load_dit(folder, fp8_config())
    assert not fp8_layers(model)
    for name, weight in model.state_dict().items():
        assert torch.allclose(weight, plain[name], rtol=1e-5, atol=0), name


def test_an_official_forward_with_exact_inputs_is_what_a_layer_computes(tmp_path: Path) -> None:
    """Inputs on the grid of fp8 are rounded by nobody, so that both formulas have one result."""
    folder, _ = save(tmp_path)
    layer = load_dit(folder, fp8_config(), keep_fp8=True).get_submodule(PROJECTION)
    assert isinstance(layer, Fp8Linear)
    smooth = layer.get_buffer("smooth_scale")[0]
    quantised = torch.randn(5, len(smooth)).to(FP8).float()
    expected = (
        quantised @ layer.weight[0].float().T * layer.get_buffer("input_scale") * layer.get_buffer("weight_scale")
    )
    assert torch.allclose(layer(quantised * smooth), expected, rtol=1e-4, atol=1e-5)


def test_kept_weights_take_half_and_compute_the_same(distilled: Path, tmp_path: Path) -> None:
    folder, _ = save(tmp_path)
    kept, dequantised = (load_dit(folder, fp8_config(), keep_fp8=keep) for keep in (True, False))
    assert {layer.weight.dtype for layer in fp8_layers(kept).values()} == {FP8}
    parts = load(distilled)

    def sample(model: VideoDiT, preset: str) -> torch.Tensor:
        pipe = MagiPipeline(model, parts.vae, parts.text_encoder, fp8_config(), special_tokens=parts.special_tokens)
        pipe.set_progress_bar_config(disable=True)
        noise = torch.Generator().manual_seed(3)
        with motioncache.cached(pipe, preset, allow_foreign_calibration=True):
            return pipe("a red circle", generator=noise, num_frames=24, output_type="latent").frames

    for preset in ("exact", "slow", "forecast"):
        assert torch.allclose(sample(kept, preset), sample(dequantised, preset), rtol=1e-4, atol=1e-5), preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{QUERY}.weight_scale"), f"lacks {QUERY}.weight_scale"),
        (lambda w: w.update({f"{QUERY}.weight": w[f"{QUERY}.weight"].float()}), "holds torch.float8_e4m3fn there"),
        (lambda w: w[f"{PROJECTION}.smooth_scale"].zero_(), f"scales of {PROJECTION} are not above 0"),
        (lambda w: w[f"{QUERY}.weight"].view(torch.uint8).fill_(0x7F), f"{QUERY}.weight has values that are NaN"),
    ],
    ids=["a scale is missing", "no fp8", "zero", "NaN"],
)
def test_a_damaged_checkpoint_is_named(change: Callable[[Weights], object], message: str, tmp_path: Path) -> None:
    folder, _ = save(tmp_path, change)
    with pytest.raises(MotionCacheError, match=message):
        load_dit(folder, fp8_config())


def test_what_is_no_fp8_checkpoint_keeps_no_fp8(distilled: Path) -> None:
    with pytest.raises(MotionCacheError, match=r"keeps those of an fp8 checkpoint, and 4\.5B_distill is none"):
        load(distilled, weights="fp8")
    with pytest.raises(MotionCacheError, match="weights must be null or fp8, not 'int4'"):
        load(distilled, weights="int4")
