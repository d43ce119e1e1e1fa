"""What `motioncache memory` measures of SkyReels-V2 is what is allocated."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache.errors import ConfigError, MotionCacheError
from motioncache_eval.measured_memory import KV, OUTPUTS, TEXT_KV, MeasuredMemory, MemorySettings, Stage, measure
from motioncache_eval.memory import GIB
from motioncache_skyreels.measure import (
    TRANSFORMER,
    create_autoencoder,
    create_text_encoder,
    create_transformer,
    measure_released,
    sample_window,
)
from motioncache_skyreels.memory import AUTOENCODER_PARAMETERS, RELEASED, TEXT_ENCODER_PARAMETERS, create_empty, memory

TINY: dict[str, Any] = {
    "num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 64, "ffn_dim": 512, "in_channels": 8,
    "out_channels": 8, "text_dim": 64,
}  # fmt: skip


@cache
def small_model() -> MeasuredMemory:
    """The 1.3B model at the size of the paper."""
    return measure_released("1.3B-540P", MemorySettings())


def sampling(measured: MeasuredMemory) -> Stage:
    return next(stage for stage in measured.stages if stage.name == "sampling")


def measure_tiny(device: str, preset: str, **more: Any) -> Stage:
    transformer, autoencoder = create_transformer(TINY, torch.float32).to_empty(device=device), create_autoencoder()
    torch._foreach_zero_(list(transformer.parameters()))
    settings = MemorySettings(height=128, width=192, num_frames=57, base_num_frames=57, preset=preset, **more)
    return measure(
        "sampling", {TRANSFORMER: transformer}, lambda: sample_window(transformer, autoencoder, settings), device
    )


@pytest.mark.parametrize("preset", ["exact", "slow", "forecast"])
def test_the_model_allocates_on_meta_what_it_allocates_on_the_cpu(preset: str) -> None:
    on_meta, on_cpu = measure_tiny("meta", preset).parts, measure_tiny("cpu", preset).parts
    moved = ("_Transformer.__call__", "Window._pack")  # what lies on the host in either case
    of_model = {name: size for name, size in on_meta.items() if name not in moved}
    assert {KV, TEXT_KV, "GELU", "after_attention"} < set(of_model)
    assert {name: on_cpu.get(name) for name in of_model} == of_model


def test_the_parts_of_a_tiny_model_are_as_computed_by_hand() -> None:
    tokens, width = 15 * 8 * 12, 128  # of three chunks, one of which is clean, and two lack a token
    parts = measure_tiny("meta", "slow").parts
    assert parts[KV] == 3 * 2 * (2 * tokens) * width * 4
    assert parts[TEXT_KV] == 2 * 3 * 2 * 512 * width * 4
    assert parts[OUTPUTS] == 2 * tokens * width * 4
    assert parts["GELU"] == 2 * (tokens - 2) * 512 * 4


def test_forecast_keeps_two_velocities_and_exact_nothing() -> None:
    velocity = 2 * (8 * 15 * 16 * 24) * 4  # both branches
    assert measure_tiny("meta", "forecast").parts[OUTPUTS] == 2 * velocity
    assert OUTPUTS not in measure_tiny("meta", "exact").parts


def test_keys_and_values_of_the_released_models_have_the_known_sizes() -> None:
    parts = sampling(small_model()).parts
    assert round(parts[KV] / GIB, 1) == 17.5
    large = create_empty(RELEASED["14B-540P"][0])
    assert round(memory(large, "", height=544, width=960, num_frames=97).kv_cache / GIB, 1) == 77.8
    assert small_model().weights["text encoder"] == 2 * TEXT_ENCODER_PARAMETERS
    assert small_model().weights["autoencoder"] == 4 * AUTOENCODER_PARAMETERS


def test_the_committed_figures_are_those_of_this_code() -> None:
    stored = json.loads((Path(__file__).resolve().parents[2] / "docs" / "memory.json").read_text())["1.3B-540P"]
    (committed,) = (MeasuredMemory.from_dict(one) for one in stored if one["frames"] == 97 and not one["flags"])
    measured = small_model()
    assert committed.weights == measured.weights
    for offload in (False, True):
        assert measured.peak(offload=offload) == pytest.approx(committed.peak(offload=offload), rel=0.002)


def test_the_estimate_agrees_with_what_was_measured() -> None:
    measured, parts = small_model(), sampling(small_model()).parts
    estimate = memory(create_empty(RELEASED["1.3B-540P"][0]), "", height=544, width=960, num_frames=97)
    assert estimate.kv_cache == parts[KV]
    assert estimate.text_kv == parts[TEXT_KV]
    assert estimate.outputs == parts[OUTPUTS]
    activations = sampling(measured).bytes - parts[KV] - parts[OUTPUTS] - parts[TEXT_KV]
    assert estimate.activations == pytest.approx(activations, rel=0.01)
    for offload in (False, True):
        assert estimate.total(offload=offload) == pytest.approx(measured.peak(offload=offload), rel=0.01)


def test_offloading_keeps_one_model_at_a_time() -> None:
    measured = small_model()
    weights = measured.weights
    assert measured.peak(offload=True) == weights[TRANSFORMER] + sampling(measured).bytes
    assert measured.peak(offload=False) == sum(weights.values()) + sampling(measured).bytes


@pytest.mark.parametrize("frames", [60, 93, 96])
def test_a_window_that_does_not_divide_into_chunks_is_refused(frames: int) -> None:
    with pytest.raises(ConfigError, match=f"a window of {frames} frames does not divide .* 57, 77, 97"):
        measure_released("1.3B-540P", MemorySettings(num_frames=frames))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_allocates_what_was_measured() -> None:
    settings = MemorySettings(height=272, width=480, num_frames=57, base_num_frames=57, preset="slow")
    sizes = {**RELEASED["1.3B-540P"][0], "num_layers": 4}

    def run(device: str) -> tuple[Stage, int]:
        transformer = create_transformer(sizes, torch.bfloat16).to_empty(device=device)
        needs = {TRANSFORMER: transformer}
        torch.cuda.reset_peak_memory_stats()
        stage = measure("sampling", needs, lambda: sample_window(transformer, create_autoencoder(), settings), device)
        return stage, torch.cuda.max_memory_allocated()

    _, allocated = run("cuda")
    stage, _ = run("meta")
    weights = sum(one.nbytes for one in create_transformer(sizes, torch.bfloat16).parameters())
    assert allocated == pytest.approx(weights + stage.bytes, rel=0.02)


def test_the_text_encoder_is_measured_in_the_dtype_of_the_job() -> None:
    assert create_text_encoder(torch.float32).dtype == torch.float32


@pytest.mark.parametrize(("parallel", "sharing"), [("ulysses", True), ("cfg", False)])
@pytest.mark.parametrize("preset", ["exact", "slow"])
def test_one_of_two_gpus_keeps_half_of_the_keys_and_values(parallel: str, sharing: bool, preset: str) -> None:
    alone, one_of_two = (measure_tiny("meta", preset, **more).parts for more in ({}, {"gpus": 2, "parallel": parallel}))
    assert 2 * one_of_two[KV] == alone[KV]
    assert one_of_two["GELU"] <= alone["GELU"] / 2 + 2 * 512 * 4  # of half the rows, or of one branch
    assert one_of_two[TEXT_KV] <= alone[TEXT_KV] / (1 if sharing else 2)


def test_gpus_that_do_not_divide_the_heads_are_refused() -> None:
    with pytest.raises(MotionCacheError, match="12 heads of keys and values, among 5 processes: start 2, 3, 4, 6, 12"):
        measure_released("1.3B-540P", MemorySettings(gpus=5))
    with pytest.raises(ConfigError, match="parallel"):
        MemorySettings(parallel="cfg")
