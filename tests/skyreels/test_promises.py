"""The promises of every adapter on SkyReels-V2, and what this model promises besides."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from diffusers import SkyReelsV2DiffusionForcingVideoToVideoPipeline

import motioncache
from motioncache import ForecastConfig, MotionCacheConfig, MotionCacheError, TeaCacheConfig
from motioncache.api import get_hook
from motioncache.config import PolicyConfig
from motioncache.decision import ChunkState, Decision
from motioncache.foreign import PackedHook
from motioncache.motion import Normalisation
from motioncache.policies.distance import Distance
from motioncache.probe import Probe
from motioncache.record import Phase
from motioncache.testing import Promises, Subject
from motioncache_skyreels.adapter import SkyReelsAdapter
from motioncache_skyreels.compat.published import PublishedAdapter, PublishedMotionCacheConfig, PublishedTeaCacheConfig

from .conftest import COEFFICIENTS, embeddings, generate, make_pipeline

Make = Callable[..., MotionCacheConfig]


class TestPromises(Promises):
    @pytest.fixture
    def subject(self, config: Make, measured: str) -> Subject:
        return Subject(
            adapter=SkyReelsAdapter(),
            create_pipeline=make_pipeline,
            sample=lambda pipeline, seed: generate(pipeline, seed=seed),
            sample_other=lambda pipeline: generate(pipeline, height=32, width=16, num_frames=137, overlap_history=17),
            blocks=lambda pipeline: pipeline.transformer.blocks,
            step_calls=lambda iteration: 2 if iteration == 0 else 1,  # the branches are known from the second on
            token_policy=config(),
            everything={"threshold": 0.0},
            nothing={"threshold": 1e9, "warmup": 1},
            changes={
                "warmup": 3,
                "chunk_phase_updates": 4,
                "threshold": 0.4,
                "coefficients": (0.5, 0.0),
                "fit_range": (0.0, 0.05),
                "normalisation": Normalisation.mean,
                "floor": 0.0,
                "temporal_vote": 0.5,
                "minimum_update_ratio": 0.5,
                "shared_mask": True,
            },
            elsewhere=("distance", "clamp_distance", "kv", "split_guidance"),
            other_policies={
                "forecast": ForecastConfig(target_speedup=3.0, calibration=measured),
                "teacache": TeaCacheConfig(warmup=1, coefficients=COEFFICIENTS, threshold=0.4),
            },
        )


@pytest.fixture(params=["motioncache", "forecast"])
def policy(request: pytest.FixtureRequest, config: Make, measured: str) -> PolicyConfig:
    """One of each kind: it keeps residuals, or velocities."""
    return ForecastConfig(target_speedup=3.0, calibration=measured) if request.param == "forecast" else config()


def due_counts(pipeline: Any) -> list[int]:
    return [record.computed for record in get_hook(pipeline).engine.trace.records]


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
    pipeline = make_pipeline()
    latents, summaries, records = [], [], []
    for kind in (TeaCacheConfig, PublishedTeaCacheConfig):
        config = kind(warmup=1, coefficients=COEFFICIENTS, threshold=0.2)
        with motioncache.cached(pipeline, config, adapter=PublishedAdapter()) as statistics:
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
        block.register_forward_hook(PackedHook(lambda *_: calls.append(1)))
    with motioncache.cached(pipeline, config(threshold=1e9)):
        generate(pipeline, num_frames=17, base_num_frames=17)  # one chunk: warm-up steps 0 and 1, then reuse alone
    # 2 blocks x (step 0: a call for each branch, step 1: one call for both)
    assert len(calls) == 2 * 3


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


def test_the_context_manager_undoes_the_cache_even_if_the_summary_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline()
    before = snapshot(pipeline)

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no summary")

    monkeypatch.setattr("motioncache.api.summarise", fail)
    with pytest.raises(RuntimeError, match="no summary"), motioncache.cached(pipeline, "exact"):
        pass
    assert snapshot(pipeline) == before


def snapshot(pipeline: Any) -> tuple[Any, ...]:
    modules = [pipeline.transformer, *pipeline.transformer.blocks]
    processors = [b.attn1.processor for b in pipeline.transformer.blocks]
    return (set(vars(pipeline)), [set(vars(m)) - {"_diffusers_hook"} for m in modules], processors)


def test_enabling_a_cache_that_hooks_nothing_is_an_error() -> None:
    with pytest.raises(
        MotionCacheError, match="no adapter serves a object; installed adapters: helios, magi-1, skyreels-v2"
    ):
        motioncache.enable_cache(object(), "exact")


def test_all_states_are_freed_when_a_video_ends(policy: PolicyConfig) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, policy)
    generate(pipeline, num_frames=137, overlap_history=17)
    hook = get_hook(pipeline)
    assert hook._calls._window is None  # pyright: ignore[reportAttributeAccessIssue]
    assert hook.engine.is_idle
    assert hook._calls._texts == {}  # pyright: ignore[reportAttributeAccessIssue]


class LeastDistance(Probe):
    """The smallest accumulated distance of any token after any step."""

    least = 0.0

    def committed(self, decision: Decision, state: ChunkState) -> None:
        accumulated = getattr(state.memory, "accumulated", None)
        if accumulated is not None:
            self.least = min(self.least, accumulated.min().item())


def test_clamping_keeps_a_falling_polynomial_from_freezing_the_cache(config: Make) -> None:
    # Distance 0.1 - change is negative here (change > 0.12): unclamped sums fall for ever, clamped ones stand still.
    accumulated = []
    for clamp in (True, False):
        pipeline, probe = make_pipeline(), LeastDistance()
        with motioncache.cached(pipeline, config(coefficients=(-1.0, 0.1), clamp_distance=clamp)):
            get_hook(pipeline).engine.probe = probe
            generate(pipeline)
        accumulated.append(probe.least)
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


def as_published(config: MotionCacheConfig) -> PublishedMotionCacheConfig:
    return PublishedMotionCacheConfig(**{f.name: getattr(config, f.name) for f in fields(config)})


def test_the_published_code_gives_another_result(config: Make) -> None:
    pipeline = make_pipeline()
    results = []
    for policy in (config(), as_published(config())):
        with motioncache.cached(pipeline, policy, adapter=PublishedAdapter()):
            results.append(generate(pipeline))
    assert (results[0] - results[1]).abs().max() > 1e-3


def test_the_published_code_keeps_the_promises_of_state(config: Make) -> None:
    """It hands memory on from window to window, and still nothing of one video reaches the next."""
    call = {"num_frames": 137, "overlap_history": 17}
    pipeline = make_pipeline()
    uncached = generate(pipeline, **call)
    motioncache.enable_cache(pipeline, as_published(config()), adapter=PublishedAdapter())
    first = generate(pipeline, **call)
    assert get_hook(pipeline).engine.is_idle
    generate(pipeline, seed=1, height=32, width=16)
    assert torch.equal(generate(pipeline, **call), first)
    motioncache.disable_cache(pipeline)
    assert torch.equal(generate(pipeline, **call), uncached)


def test_policies_of_the_published_code_are_not_served_by_the_product(config: Make) -> None:
    with pytest.raises(MotionCacheError, match="a PublishedMotionCacheConfig does not fit skyreels-v2"):
        motioncache.enable_cache(make_pipeline(), as_published(config()))


def test_a_prompt_is_projected_once_per_video(config: Make) -> None:
    pipeline = make_pipeline()
    calls: list[int] = []
    pipeline.transformer.blocks[0].attn2.to_k.register_forward_hook(PackedHook(lambda *_: calls.append(1)))
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
