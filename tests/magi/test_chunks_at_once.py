"""Layers that compute a few chunks at a time compute what they compute of all chunks side by side, in less memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache.errors import ConfigError
from motioncache_eval.measured_memory import KV, OUTPUTS, TEXT_KV, MemorySettings, measure
from motioncache_magi.job.config import load_magi_job
from motioncache_magi.loading.variants import released
from motioncache_magi.measure import sample_steps
from motioncache_magi.model.dit import VideoDiT
from motioncache_magi.model.forward import _parts
from motioncache_magi.sampling.options import MemoryOptions

from .test_pipeline import load

PACKED = 64


def sample(folder: Path, chunks_at_once: int, rows: list[int] | None = None) -> torch.Tensor:
    pipe = load(folder, chunks_at_once=chunks_at_once)
    layer: Any = pipe.transformer.videodit_blocks.layers[0]
    layer.register_forward_hook(lambda _, given, out: None if rows is None else rows.append(len(out)))
    noise = torch.Generator().manual_seed(3)
    return pipe("a red circle", generator=noise, num_frames=72, output_type="latent").frames


@pytest.mark.parametrize("kind", ["distilled", "base"])
def test_one_chunk_at_a_time_is_the_packed_pass_within_rounding(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    by_one: list[int] = []
    packed: list[int] = []
    one, all_at_once = sample(folder, 1, by_one), sample(folder, PACKED, packed)
    tokens = 6 * 2 * 3  # of a chunk of 32x48 pixels
    assert set(by_one) == {tokens}
    assert sum(by_one) == sum(packed)
    assert max(packed) >= 4 * tokens
    assert (one - all_at_once).norm() < 1.6e-5 * all_at_once.norm()


def test_neighbours_are_computed_together_as_long_as_they_are_few() -> None:
    assert _parts([3, 1, 1, 5, 0, 2], 4) == [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)]
    assert _parts([3, 1, 1, 5, 0, 2], None) == [slice(0, 6)]
    assert _parts([9], 4) == [slice(0, 1)]


def test_small_chunks_are_packed_and_large_ones_are_not() -> None:
    automatic = MemoryOptions()
    assert automatic.most_rows(96) >= 4 * 96
    assert automatic.most_rows(12150) < 2 * 12150
    assert MemoryOptions(chunks_at_once=3).most_rows(12150) == 3 * 12150


def test_activations_are_those_of_one_chunk() -> None:
    config = released("4.5B_distill")
    config = replace(config, model=replace(config.model, num_layers=2))

    def activations(chunks_at_once: int | None) -> int:
        with torch.device("meta"):
            model = VideoDiT(config.model).set_dtypes().requires_grad_(False)
        options = MemoryOptions(chunks_at_once=chunks_at_once)
        stage = measure(
            "sampling",
            {"transformer": model},
            lambda: sample_steps(model, config, MemorySettings(preset="slow"), options),
        )
        return stage.bytes - sum(stage.parts.get(part, 0) for part in (KV, TEXT_KV, OUTPUTS))

    automatic, packed = activations(None), activations(PACKED)
    assert automatic < 1.9e9 < 4.5e9 < packed


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_what_is_no_number_of_chunks_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="chunks_at_once must be null, or a whole number of at least 1"):
        MemoryOptions(chunks_at_once=wrong)


def test_a_job_says_how_many_chunks() -> None:
    assert load_magi_job(None, ["model=x", "prompt=y", "chunks_at_once=2"]).chunks_at_once == 2
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        load_magi_job(None, ["model=x", "prompt=y", "chunks_at_once=0"])
