"""What every model's adapter promises, whatever the policy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingVideoToVideoPipeline

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError
from motioncache.api import get_hook
from motioncache.config import PolicyConfig
from motioncache.distance import Distance
from motioncache.motion import Normalisation
from motioncache.trace import Phase

from .conftest import COEFFICIENTS, embeddings, generate, make_pipeline

Make = Callable[..., MotionCacheConfig]


@pytest.fixture(params=["motioncache", "as published", "forecast"])
def policy(request: pytest.FixtureRequest, config: Make, measured: str) -> PolicyConfig:
    """One of each kind: it keeps residuals, also from window to window, or velocities."""
    if request.param == "forecast":
        return ForecastConfig(target_speedup=3.0, calibration=measured)
    return config(reference_quirks=request.param == "as published")


def due_counts(pipeline: Any) -> list[int]:
    return [record.computed for record in get_hook(pipeline).engine.trace.records]


def test_threshold_0_equals_the_uncached_run(config: Make) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    with motioncache.cached(pipeline, config(threshold=0.0)) as statistics:
        assert (vanilla - generate(pipeline)).abs().max() < 2e-5
    assert statistics.summary().hit_ratio == 0


def test_a_token_phase_really_computes_some_tokens_and_changes_the_result(config: Make) -> None:
    pipeline = make_pipeline()
    vanilla = generate(pipeline)
    with motioncache.cached(pipeline, config()) as statistics:
        ours = generate(pipeline)
    chunks = statistics.summary().chunks
    assert sum(c.partial for c in chunks) > 5
    assert sum(c.reused for c in chunks) > 5
    assert 1e-4 < (vanilla - ours).abs().max() < 5


def test_teacache_decides_for_the_whole_window() -> None:
    base = motioncache.TeaCacheConfig(warmup=1, coefficients=COEFFICIENTS, threshold=0.0)
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, motioncache.NoCacheConfig()):
        exact = generate(pipeline)
    errors, shares = [], []
    for threshold in (0.0, 0.2, 0.6):
        with motioncache.cached(pipeline, replace(base, threshold=threshold)) as statistics:
            errors.append(float((generate(pipeline) - exact).abs().max()))
            records = list(motioncache.last_trace(pipeline).denoise_records())
        shares.append(statistics.summary().computed_share)
        by_iteration: dict[int, set[int]] = {}
        for record in records:
            if record.step > 0:  # a new chunk has nothing to reuse
                by_iteration.setdefault(record.iteration, set()).add(record.computed)
        assert all(len(computed) == 1 for computed in by_iteration.values())
    assert errors[0] < 1e-5 < errors[1]
    assert 1 == shares[0] > shares[1] > shares[2] > 0.1


def test_without_chunk_reuse_the_video_is_the_same_and_costs_more() -> None:
    base = motioncache.TeaCacheConfig(warmup=1, coefficients=COEFFICIENTS, threshold=0.2)
    pipeline = make_pipeline()
    latents, summaries, records = [], [], []
    for chunk_reuse in (True, False):
        with motioncache.cached(pipeline, replace(base, chunk_reuse=chunk_reuse)) as statistics:
            latents.append(generate(pipeline))
            records.append(motioncache.last_trace(pipeline).records)
        summaries.append(statistics.summary())
    assert (latents[0] - latents[1]).abs().max() < 2e-5
    assert summaries[0].computed_share == summaries[1].computed_share
    assert summaries[0].flops < summaries[1].flops < summaries[1].vanilla_flops
    by_iteration: dict[int, list[Any]] = {}
    for record in records[1]:
        by_iteration.setdefault(record.iteration, []).append(record)
    chunks = records[1][-1].chunk + 1
    for found in by_iteration.values():  # all chunks in both branches, or none but one that begins
        window_due = found[0].iteration == 0 or any(record.computed for record in found if record.step > 0)
        assert sum(record.computed > 0 for record in found if record.step != 0 or window_due) == window_due * 2 * chunks


def test_without_a_token_phase_chunks_are_computed_whole(config: Make) -> None:
    """FlowCache: what decides is the distance alone, so floor, vote and ratio change nothing."""
    pipeline = make_pipeline()
    counts = []
    for changes in ({}, {"floor": 0.0, "temporal_vote": 0.1, "minimum_update_ratio": 0.9}):
        with motioncache.cached(pipeline, config(chunk_phase_updates=None, **changes)):
            generate(pipeline)
            records = list(motioncache.last_trace(pipeline).denoise_records())
        assert {record.computed for record in records} == {0, records[0].tokens}
        assert Phase.token not in {record.phase for record in records}
        counts.append([record.computed for record in records])
    assert counts[0] == counts[1]


def test_everything_reused_calls_no_block(config: Make) -> None:
    pipeline = make_pipeline()
    calls: list[int] = []
    for block in pipeline.transformer.blocks:
        block.register_forward_hook(lambda *_: calls.append(1))
    with motioncache.cached(pipeline, config(threshold=1e9)):
        generate(pipeline, num_frames=17, base_num_frames=17)  # one chunk: warm-up steps 0 and 1, then reuse alone
    # 2 blocks x (step 0: a call for each branch, step 1: one call for both)
    assert len(calls) == 2 * 3


def test_sparse_rows_equal_dense_rows(config: Make) -> None:
    # A threshold that every token reaches, through the path of selected tokens: each frame's vote is its own mask.
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, config(threshold=0.0)):
        dense = generate(pipeline)
    with motioncache.cached(pipeline, config(threshold=0.0)):
        policy = get_hook(pipeline).engine.policy
        original = policy.settle

        def as_indices(requests: Any, proposals: Any, masks: Any) -> Any:
            decisions = original(requests, proposals, masks)
            everything = torch.arange(requests[0].grid.tokens_per_chunk) if requests else None
            later = [r.step > 1 for r in requests]
            return [replace(d, due=everything) if s else d for d, s in zip(decisions, later, strict=True)]

        policy.settle = as_indices  # pyright: ignore[reportAttributeAccessIssue]
        sparse = generate(pipeline)
    assert (dense - sparse).abs().max() < 2e-5


def test_two_videos_in_a_row_equal_two_fresh_runs(policy: PolicyConfig) -> None:
    fresh = []
    for seed in (0, 1):
        pipeline = make_pipeline()
        motioncache.enable_cache(pipeline, policy)
        fresh.append(generate(pipeline, seed=seed))
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy)
    assert all(torch.equal(generate(pipeline, seed=seed), fresh[seed]) for seed in (0, 1))


def test_a_video_of_another_size_follows_without_a_trace_of_the_first(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy)
    first = generate(pipeline)
    generate(pipeline, height=32, width=16, num_frames=137, overlap_history=17)
    assert torch.equal(generate(pipeline), first)


def test_branches_do_not_see_each_other(config: Make) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config())
    masks = []
    for seed in (11, 12):  # another negative prompt must not change a decision of the cond branch at the first steps
        cond = embeddings()["prompt_embeds"]
        uncond = embeddings(seed)["negative_prompt_embeds"]
        generate(pipeline, prompt_embeds=cond, negative_prompt_embeds=uncond, guidance_scale=1.0 + 1e-9)
        records = get_hook(pipeline).engine.trace.records
        masks.append([r.computed for r in records if r.branch == "cond"])
    assert masks[0] == masks[1]


def test_an_exception_in_the_model_leaves_the_next_run_clean(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy)
    expected = generate(pipeline)
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise RuntimeError("out of memory, say")

    handle = pipeline.transformer.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(pipeline)
    handle.remove()
    assert get_hook(pipeline).engine._store is None  # the states are dropped at once
    assert torch.equal(generate(pipeline), expected)


def test_an_exception_in_a_callback_leaves_the_next_run_clean(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy)
    expected = generate(pipeline)

    def fail(pipe: Any, step: int, t: Any, kwargs: Any) -> Any:
        if step == 7:
            raise KeyError("mine")
        return kwargs

    with pytest.raises(KeyError):
        generate(pipeline, callback_on_step_end=fail)
    assert torch.equal(generate(pipeline), expected)


def test_the_context_manager_undoes_the_cache_on_an_exception() -> None:
    pipeline = make_pipeline()
    with pytest.raises(ZeroDivisionError), motioncache.cached(pipeline, "exact"):
        raise ZeroDivisionError
    with pytest.raises(MotionCacheError, match="not on"):
        motioncache.summary(pipeline)


def test_the_context_manager_undoes_the_cache_even_if_the_summary_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline()
    before = snapshot(pipeline)

    def fail(*_: Any) -> Any:
        raise RuntimeError("no summary")

    monkeypatch.setattr("motioncache.api.summarise", fail)
    with pytest.raises(RuntimeError, match="no summary"), motioncache.cached(pipeline, "exact"):
        pass
    assert snapshot(pipeline) == before


def snapshot(pipeline: Any) -> tuple[Any, ...]:
    modules = [pipeline.transformer, *pipeline.transformer.blocks]
    processors = [b.attn1.processor for b in pipeline.transformer.blocks]
    return (set(vars(pipeline)), [set(vars(m)) - {"_diffusers_hook"} for m in modules], processors)


def test_disabling_restores_the_original_bit_for_bit(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    generate(pipeline)
    before, keys = snapshot(pipeline), set(pipeline.transformer.state_dict())
    vanilla = generate(pipeline)
    motioncache.enable_cache(pipeline, policy)
    generate(pipeline)
    assert set(pipeline.transformer.state_dict()) == keys  # caches are no buffers
    motioncache.disable_cache(pipeline)
    assert snapshot(pipeline) == before
    assert torch.equal(generate(pipeline), vanilla)


def test_all_states_are_freed_when_a_video_ends(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy)
    generate(pipeline, num_frames=137, overlap_history=17)
    hook = get_hook(pipeline)
    assert hook._window is None  # pyright: ignore[reportAttributeAccessIssue]
    assert hook.engine._store is None
    assert hook.engine._carried is None
    assert hook._texts == {}  # pyright: ignore[reportAttributeAccessIssue]


def test_enabling_twice_is_an_error() -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, "exact")
    with pytest.raises(MotionCacheError, match="already on"):
        motioncache.enable_cache(pipeline, "exact")


def test_enabling_a_cache_that_hooks_nothing_is_an_error() -> None:
    with pytest.raises(MotionCacheError, match="no adapter serves a object; installed adapters: magi-1, skyreels-v2"):
        motioncache.enable_cache(object(), "exact")


CHANGES: dict[str, Any] = {
    "warmup": 3,
    "chunk_phase_updates": 4,
    "threshold": 0.4,
    "coefficients": (0.5, 0.0),
    "fit_range": (0.0, 0.05),
    "normalisation": Normalisation.mean,
    "floor": 0.0,
    "temporal_vote": 0.5,
    "minimum_update_ratio": 0.5,
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_what_is_computed(field: str, config: Make) -> None:
    pipeline = make_pipeline()
    counts = []
    for changes in ({}, {field: CHANGES[field]}):
        with motioncache.cached(pipeline, config(**changes)):
            generate(pipeline)
            counts.append(due_counts(pipeline))
    assert counts[0] != counts[1]


def test_clamping_keeps_a_falling_polynomial_from_freezing_the_cache(config: Make) -> None:
    # Distance 0.1 - change is negative here (change > 0.12): unclamped sums fall for ever, clamped ones stand still.
    falling = {"coefficients": (-1.0, 0.1)}
    accumulated = []
    for clamp in (True, False):
        pipeline = make_pipeline()
        values: list[float] = []
        with motioncache.cached(pipeline, config(**falling, clamp_distance=clamp)):
            get_hook(pipeline).engine.observer = lambda task, state, values=values: values.append(
                0.0
                if state.memory is None or state.memory.accumulated is None
                else state.memory.accumulated.min().item()
            )
            generate(pipeline)
        accumulated.append(min(values))
    assert accumulated[0] == 0
    assert accumulated[1] < -0.1


def test_distance_per_token_sets_given_frames_apart(config: Make) -> None:
    # In a window with full attention, given frames do not move; in a global mean they dilute the others' distance.
    call = {"num_frames": 117, "overlap_history": 17, "ar_step": 0, "causal_block_size": 1}
    pipeline = make_pipeline()
    counts = []
    for distance in Distance:
        with motioncache.cached(pipeline, config(distance=distance)):
            generate(pipeline, **call)
            counts.append(due_counts(pipeline))
    assert counts[0] != counts[1]


def test_quirks_change_the_result(config: Make) -> None:
    pipeline = make_pipeline()
    results = []
    for quirks in (False, True):
        with motioncache.cached(pipeline, config(reference_quirks=quirks)):
            results.append(generate(pipeline))
    assert (results[0] - results[1]).abs().max() > 1e-3


def test_a_prompt_is_projected_once_per_video(config: Make) -> None:
    pipeline = make_pipeline()
    calls: list[int] = []
    pipeline.transformer.blocks[0].attn2.to_k.register_forward_hook(lambda *_: calls.append(1))
    with motioncache.cached(pipeline, config()):
        generate(pipeline, num_frames=137, overlap_history=17)
    assert len(calls) == 2  # two branches; the second window takes what the first one made


def test_video_to_video_goes_through_all_phases(config: Make) -> None:
    pipeline = make_pipeline(SkyReelsV2DiffusionForcingVideoToVideoPipeline)
    video = torch.rand(21, 3, 16, 32, generator=torch.Generator().manual_seed(3))
    with motioncache.cached(pipeline, config()):
        generate(pipeline, video=video, overlap_history=17, num_frames=137, addnoise_condition=20)
        records = get_hook(pipeline).engine.trace.records
    assert {record.phase for record in records} == {
        Phase.prefix,
        Phase.finished,
        Phase.warmup,
        Phase.chunk,
        Phase.token,
    }
    assert {record.window for record in records} == {0, 1}


def test_summary_counts_every_chunk_and_prints(config: Make) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, config())
    generate(pipeline)
    summary = motioncache.summary(pipeline)
    assert [c.chunk for c in summary.chunks] == [0, 1, 2, 3]
    assert all(c.full + c.partial + c.reused == 2 * 10 for c in summary.chunks)  # both branches, 10 steps
    assert 0 < summary.hit_ratio < 1
    assert summary.flops < summary.vanilla_visible_flops < summary.vanilla_flops
    assert "hit ratio" in str(summary)
