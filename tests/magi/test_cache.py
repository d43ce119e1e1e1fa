"""The cache on `MagiPipeline`: equalities, reuse in every branch, and undoing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import motioncache
from motioncache import MotionCacheConfig, MotionCacheError, NoCacheConfig
from motioncache.record import Phase
from motioncache_magi.cache.config import Output
from motioncache_magi.cache.cost import MagiCost
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig, limit_reuse
from motioncache_magi.cache.teacache import MagiTeaCacheConfig
from motioncache_magi.compat.published import PublishedAdapter, PublishedTeaCacheConfig
from motioncache_magi.loading.variants import released
from motioncache_magi.pipeline import MagiPipeline
from motioncache_magi.sampling.schedule import WindowSchedule

from .test_pipeline import generator, load

CACHE = MagiMotionCacheConfig(warmup=1, chunk_phase_steps=2, threshold=0.05, token_threshold=0.1)


@pytest.fixture(scope="module", params=["distilled", "base"])
def pipe(request: pytest.FixtureRequest) -> MagiPipeline:
    return load(request.getfixturevalue(request.param))


def latents(pipe: MagiPipeline, **call: Any) -> torch.Tensor:
    options = {"num_frames": 72, "output_type": "latent", "generator": generator(), **call}
    return pipe("a red circle", **options).frames


def test_exact_equals_vanilla(pipe: MagiPipeline) -> None:
    vanilla = latents(pipe)
    with motioncache.cached(pipe, "exact") as statistics:
        assert torch.equal(latents(pipe), vanilla)
    summary = statistics.summary()
    assert summary.hit_ratio == 0
    assert summary.flops == summary.vanilla_flops


@pytest.mark.parametrize("output", Output)
def test_a_threshold_of_zero_equals_vanilla(pipe: MagiPipeline, output: Output) -> None:
    config = replace(CACHE, threshold=0.0, token_threshold=0.0, output=output)
    vanilla = latents(pipe)
    with motioncache.cached(pipe, config):
        assert torch.allclose(latents(pipe), vanilla, atol=1e-5)


def test_reuse_saves_work_and_a_lower_threshold_stays_closer(pipe: MagiPipeline) -> None:
    vanilla = latents(pipe, num_inference_steps=32)
    errors: dict[tuple[Output, float], float] = {}
    partial = 0
    for output in Output:
        for threshold in (0.1, 0.02):
            config = replace(CACHE, threshold=threshold, token_threshold=2 * threshold, output=output)
            with motioncache.cached(pipe, config) as statistics:
                reused = latents(pipe, num_inference_steps=32)
                records = motioncache.last_trace(pipe).records
            summary = statistics.summary()
            assert 0.1 < summary.hit_ratio < 0.95
            assert summary.flops < (1 - 0.7 * summary.hit_ratio) * summary.vanilla_flops
            partial += sum(record.due is not None for record in records)
            assert {chunk.chunk for chunk in summary.chunks} == {0, 1, 2}
            errors[output, threshold] = float((reused - vanilla).square().mean() / vanilla.square().mean())
    assert partial > 0  # some chunks were computed in part
    assert errors[Output.velocity, 0.02] < 0.5 * errors[Output.velocity, 0.1]
    assert errors[Output.velocity, 0.02] < errors[Output.displacement, 0.02]


def test_teacache_decides_for_the_whole_window(pipe: MagiPipeline) -> None:
    vanilla = latents(pipe, num_inference_steps=32)
    errors, shares = [], []
    for threshold in (0.0, 0.04, 0.16):
        with motioncache.cached(
            pipe, MagiTeaCacheConfig(warmup=1, threshold=threshold, output=Output.velocity)
        ) as statistics:
            errors.append(float((latents(pipe, num_inference_steps=32) - vanilla).abs().max()))
            records = list(motioncache.last_trace(pipe).denoise_records())
        shares.append(statistics.summary().computed_share)
        by_step: dict[int, set[int]] = {}
        for record in records:
            if record.step > 0:  # a new chunk has nothing to reuse
                by_step.setdefault(record.iteration, set()).add(record.computed)
        assert all(len(computed) == 1 for computed in by_step.values())
        assert all(record.computed == record.tokens for record in records if record.step == 0)
    assert errors[0] < 1e-5 < errors[1] < errors[2]
    assert 1 == shares[0] > shares[1] > shares[2] > 0.1


def test_the_published_teacache_is_for_distilled_models(pipe: MagiPipeline) -> None:
    with motioncache.cached(pipe, MagiTeaCacheConfig(warmup=1, threshold=0.1)):
        corrected = latents(pipe)
    config = PublishedTeaCacheConfig(warmup=1, threshold=0.1)
    with motioncache.cached(pipe, config, adapter=PublishedAdapter()):
        if pipe.config.engine.distill:
            assert not torch.allclose(latents(pipe), corrected, atol=1e-3)
        else:
            with pytest.raises(MotionCacheError, match="distilled models only"):
                latents(pipe)


def test_passes_beside_the_decisions_are_counted(pipe: MagiPipeline) -> None:
    with motioncache.cached(pipe, "exact"):
        latents(pipe)
        records = motioncache.last_trace(pipe).records
    branches = {record.branch for record in records if record.phase is Phase.guidance}
    assert branches == ({"nearly clean"} if pipe.config.engine.distill else {"text", "alone"})
    assert {record.chunk for record in records if record.phase is Phase.finished} == {0, 1}


def test_dropping_guidance_and_refresh_is_a_choice(pipe: MagiPipeline) -> None:
    config = replace(CACHE, threshold=0.0, token_threshold=0.0, refresh_clean=False, nearly_clean=False)
    vanilla = latents(pipe)
    with motioncache.cached(pipe, config) as statistics:
        assert not torch.allclose(latents(pipe), vanilla, atol=1e-3)
    assert statistics.summary().flops < statistics.summary().vanilla_flops


def test_a_video_is_gone_on_from_with_the_cache(pipe: MagiPipeline) -> None:
    given = torch.randint(0, 255, (32, 32, 48, 3), generator=generator()).to(torch.uint8).numpy()
    vanilla = latents(pipe, video=given)
    with motioncache.cached(pipe, "exact"):
        assert torch.equal(latents(pipe, video=given), vanilla)
    with motioncache.cached(pipe, CACHE):
        assert latents(pipe, video=given).shape == vanilla.shape


def test_disabling_and_errors_leave_the_pipeline_as_it_was(pipe: MagiPipeline) -> None:
    vanilla = latents(pipe)
    motioncache.enable_cache(pipe, CACHE)
    stream = pipe.stream("a red circle", num_frames=72, generator=generator(), output_type="latent")
    next(stream)
    stream.close()  # stopped in the middle
    again = latents(pipe)
    motioncache.disable_cache(pipe)
    assert torch.equal(latents(pipe), vanilla)
    with motioncache.cached(pipe, CACHE):
        assert torch.equal(latents(pipe), again)  # nothing was left over of the stopped video


def test_policies_of_another_model_are_refused(pipe: MagiPipeline) -> None:
    with pytest.raises(MotionCacheError, match="a MotionCacheConfig does not fit magi-1"):
        motioncache.enable_cache(pipe, MotionCacheConfig())
    motioncache.enable_cache(pipe, NoCacheConfig())
    motioncache.disable_cache(pipe)


@pytest.mark.parametrize("preset", ["exact", "slow", "fast", "forecast"])
def test_presets_load(pipe: MagiPipeline, preset: str) -> None:
    with motioncache.cached(pipe, preset, allow_foreign_calibration=True) as statistics:
        latents(pipe, num_inference_steps=16)
    assert "FLOPs" in str(statistics)


def test_the_published_cost_of_the_vanilla_video() -> None:
    schedule = WindowSchedule(chunks=7, prefix_chunks=0, steps=64, window=4, ranges=(5, 4, 3, 2), clean_range=1)
    cost = MagiCost(config=released("4.5B_distill"), schedule=schedule, text_length=100)
    assert cost.schedule_flops(6 * 45 * 45) == pytest.approx(140.5e15, rel=0.01)


def test_the_reuse_limit_keeps_exactly_so_many_in_stable_order() -> None:
    due = torch.tensor([False, True, False, False, False])
    accumulated = torch.tensor([0.2, 0.9, 0.1, 0.1, 0.1])
    assert limit_reuse(due, accumulated, 1.0).tolist() == due.tolist()
    assert limit_reuse(due, accumulated, 0.4).tolist() == [True, True, False, False, True]
    assert limit_reuse(due, accumulated, 0.0).all()


def test_bad_settings_say_what_is_allowed(tmp_path: Path, pipe: MagiPipeline) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{policy: motioncache, floor: 2}")
    with pytest.raises(MotionCacheError, match=r"floor: 2.0 is out of range; allowed: between 0 and 1"):
        motioncache.enable_cache(pipe, path)


def test_a_second_stream_is_refused_and_the_first_one_goes_on(pipe: MagiPipeline) -> None:
    call: dict[str, Any] = {"num_frames": 72, "output_type": "latent"}
    with motioncache.cached(pipe, CACHE):
        expected = latents(pipe)
        first = pipe.stream("a red circle", generator=generator(), **call)
        chunks = [next(first)]
        with pytest.raises(MotionCacheError, match="sampling a video already"):
            next(pipe.stream("a blue square", generator=generator(), **call))
        chunks += list(first)
        assert torch.equal(torch.cat(chunks, dim=1)[None], expected)
        assert torch.equal(latents(pipe), expected)
