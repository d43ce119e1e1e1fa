"""What `motioncache memory` measures of MAGI-1 is what is allocated."""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache.errors import ConfigError
from motioncache_eval.measured_memory import KV, OUTPUTS, TEXT_KV, MeasuredMemory, MemorySettings, Stage, measure
from motioncache_magi.loading.variants import released
from motioncache_magi.measure import measure_released, sample_steps
from motioncache_magi.memory import AUTOENCODER_PARAMETERS, memory
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.model.dit import VideoDiT

SHIPPED = Path(__file__).resolve().parents[2] / "MotionCache4MAGI-1" / "motioncache-tiny" / "magi"


@cache
def small_model() -> MeasuredMemory:
    return measure_released("4.5B_distill", MemorySettings())


def sampling(measured: MeasuredMemory) -> Stage:
    return next(stage for stage in measured.stages if stage.name == "sampling")


def shipped(kind: str) -> MagiConfig:
    return MagiConfig.from_file(SHIPPED / kind / "config.json")


def measure_shipped(config: MagiConfig, device: str, preset: str, **more: Any) -> Stage:
    with torch.device("meta"):
        model = VideoDiT(config.model).set_dtypes().requires_grad_(False)
    model = model.to_empty(device=device)
    torch._foreach_zero_(list(model.parameters()))
    settings = MemorySettings(preset=preset, **more)
    return measure("sampling", {"transformer": model}, lambda: sample_steps(model, config, settings), device)


@pytest.mark.parametrize("preset", ["exact", "slow"])
def test_one_of_two_gpus_keeps_half_of_the_keys_and_values(preset: str) -> None:
    config = shipped("base")
    config = replace(config, model=replace(config.model, num_query_groups=2))
    alone, one_of_two = (measure_shipped(config, "meta", preset, **more).parts for more in ({}, {"gpus": 2}))
    assert 2 * one_of_two[KV] == alone[KV]
    assert one_of_two["MLP._activate"] <= 0.6 * alone["MLP._activate"]


@pytest.mark.parametrize("kind", ["base", "distilled"])
@pytest.mark.parametrize("preset", ["exact", "slow", "forecast"])
def test_the_model_allocates_on_meta_what_it_allocates_on_the_cpu(kind: str, preset: str) -> None:
    config = shipped(kind)
    on_meta, on_cpu = (measure_shipped(config, device, preset).parts for device in ("meta", "cpu"))
    assert {KV, TEXT_KV, "VideoDiT.embed", "_add"} < set(on_meta)
    assert {name: on_cpu.get(name) for name in on_meta} == on_meta
    on_host = {"ChunkInput.indices", "time_schedule"}
    assert set(on_cpu) - set(on_meta) <= on_host


def test_the_outputs_that_are_kept_are_those_of_the_policy() -> None:
    config = shipped("distilled")
    runtime = config.runtime
    size = (runtime.chunk_width, runtime.video_size_h // 8, runtime.video_size_w // 8)
    latents = config.model.latent_channels * math.prod(size)
    chunks = runtime.window_size
    assert OUTPUTS not in measure_shipped(config, "meta", "exact").parts
    assert measure_shipped(config, "meta", "slow").parts[OUTPUTS] == chunks * latents * 4


def test_the_committed_figures_are_those_of_this_code() -> None:
    stored = json.loads((Path(__file__).resolve().parents[2] / "docs" / "memory.json").read_text())["4.5B_distill"]
    (committed,) = (MeasuredMemory.from_dict(one) for one in stored if one["frames"] == 96)
    measured = small_model()
    assert committed.weights == measured.weights
    for offload in (False, True):
        assert measured.peak(offload=offload) == pytest.approx(committed.peak(offload=offload), rel=0.002)


def test_the_estimate_agrees_with_what_was_measured() -> None:
    measured, parts = small_model(), sampling(small_model()).parts
    estimate = memory(released("4.5B_distill"), "")
    assert estimate.kv_cache == parts[KV]
    assert estimate.autoencoder == 2 * AUTOENCODER_PARAMETERS == measured.weights["autoencoder"]
    for offload in (False, True):
        assert estimate.total(offload=offload) == pytest.approx(measured.peak(offload=offload), rel=0.04)


def test_a_text_encoder_on_the_host_takes_nothing_of_the_gpu() -> None:
    measured = small_model()
    assert measured.on_host == ("text encoder",)
    assert [stage.name for stage in measured.stages] == ["sampling", "decoding"]
    assert measured.peak(offload=False) == sampling(measured).bytes + sum(
        measured.weights[name] for name in ("transformer", "autoencoder")
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"base_num_frames": 57}, "SkyReels"),
        ({"dtype": "float16"}, "bfloat16"),
        ({"synchronous": True}, "SkyReels"),
        ({"weights": "int8"}, "24B_distill_quant"),
    ],
)
def test_what_the_model_does_not_have_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure_released("4.5B_distill", replace(MemorySettings(), **wrong))  # pyright: ignore[reportArgumentType]
