"""What every adapter promises, whatever the policy."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from motioncache.api import cached, disable_cache, enable_cache, get_hook, last_trace, summary
from motioncache.config import PolicyConfig, read_yaml
from motioncache.decision import Call, Decision
from motioncache.errors import MotionCacheError
from motioncache.foreign import PackedHook
from motioncache.policies.none import NoCacheConfig
from motioncache.record import Record
from motioncache.registry import find_adapter, resolve_preset
from motioncache.testing.subject import Subject


class Promises:
    """A suite of tests; a subclass gives a fixture `subject`."""

    def test_the_adapter_serves_the_pipeline_and_its_presets_load(self, subject: Subject) -> None:
        assert find_adapter(subject.create_pipeline()).name == subject.adapter.name
        presets = read_yaml(subject.adapter.presets())
        loaded = [resolve_preset(subject.adapter, str(name)) for name in presets["presets"]]
        assert NoCacheConfig() in loaded
        assert resolve_preset(subject.adapter, None) in loaded

    def test_exact_equals_the_uncached_run(self, subject: Subject) -> None:
        pipeline = subject.create_pipeline()
        uncached = subject.sample(pipeline, 0)
        with cached(pipeline, NoCacheConfig()) as statistics:
            _assert_close(subject.sample(pipeline, 0), uncached, subject.tolerance)
        assert statistics.summary().hit_ratio == 0
        assert statistics.summary().flops <= statistics.summary().vanilla_flops

    def test_a_policy_that_finds_everything_due_equals_the_uncached_run(self, subject: Subject) -> None:
        pipeline = subject.create_pipeline()
        uncached = subject.sample(pipeline, 0)
        with cached(pipeline, _changed(subject, subject.everything)) as statistics:
            _assert_close(subject.sample(pipeline, 0), uncached, subject.tolerance)
        assert statistics.summary().hit_ratio == 0

    def test_reuse_saves_work_and_changes_the_result(self, subject: Subject) -> None:
        pipeline = subject.create_pipeline()
        uncached = subject.sample(pipeline, 0)
        for name, policy in subject.policies.items():
            with cached(pipeline, policy) as statistics:
                reused = subject.sample(pipeline, 0)
            assert 0.05 < statistics.summary().hit_ratio < 0.95, name
            assert statistics.summary().flops < statistics.summary().vanilla_flops, name
            assert (reused - uncached).abs().max() > subject.tolerance, name

    def test_a_call_in_which_nothing_is_due_runs_no_block(self, subject: Subject) -> None:
        pipeline = subject.create_pipeline()
        calls: list[int] = []

        def count(*_: Any) -> None:
            calls.append(1)

        handle = subject.blocks(pipeline)[0].register_forward_hook(PackedHook(count))
        with cached(pipeline, _changed(subject, subject.nothing)):
            subject.sample(pipeline, 0)
            records = last_trace(pipeline).records
        handle.remove()
        working = {(record.window, record.iteration) for record in records if record.computed}
        assert working < {(record.window, record.iteration) for record in records}  # some do nothing at all
        assert len(calls) == sum(subject.step_calls(iteration) for _, iteration in working)

    def test_selected_tokens_equal_whole_chunks(self, subject: Subject) -> None:
        pipeline = subject.create_pipeline()
        policy = _changed(subject, subject.everything)
        with cached(pipeline, policy):
            whole = subject.sample(pipeline, 0)
        with cached(pipeline, policy):
            subject_engine = get_hook(pipeline).engine
            original = subject_engine.decide
            subject_engine.decide = lambda calls: [_as_indices(d) for d in original(calls)]
            _assert_close(subject.sample(pipeline, 0), whole, subject.tolerance)

    def test_two_videos_in_a_row_equal_two_fresh_runs(self, subject: Subject) -> None:
        for name, policy in subject.policies.items():
            fresh = [_sample_cached(subject, policy, seed) for seed in (0, 1)]
            pipeline = subject.create_pipeline()
            enable_cache(pipeline, policy)
            assert all(torch.equal(subject.sample(pipeline, seed), fresh[seed]) for seed in (0, 1)), name

    def test_a_video_of_another_size_leaves_no_trace(self, subject: Subject) -> None:
        for name, policy in subject.policies.items():
            pipeline = subject.create_pipeline()
            enable_cache(pipeline, policy)
            first = subject.sample(pipeline, 0)
            subject.sample_other(pipeline)
            assert torch.equal(subject.sample(pipeline, 0), first), name

    def test_an_exception_in_the_model_leaves_the_next_run_clean(self, subject: Subject) -> None:
        for name, policy in subject.policies.items():
            pipeline = subject.create_pipeline()
            enable_cache(pipeline, policy)
            expected = subject.sample(pipeline, 0)
            with _failing(subject.blocks(pipeline)[-1], after=3), pytest.raises(RuntimeError, match="out of memory"):
                subject.sample(pipeline, 0)
            assert get_hook(pipeline).engine.is_idle, name  # the states are dropped at once
            assert torch.equal(subject.sample(pipeline, 0), expected), name

    def test_all_states_are_freed_when_a_video_ends(self, subject: Subject) -> None:
        for name, policy in subject.policies.items():
            pipeline = subject.create_pipeline()
            enable_cache(pipeline, policy)
            subject.sample(pipeline, 0)
            assert get_hook(pipeline).engine.is_idle, name

    def test_disabling_restores_the_original_bit_for_bit(self, subject: Subject) -> None:
        for name, policy in subject.policies.items():
            pipeline = subject.create_pipeline()
            uncached = subject.sample(pipeline, 0)
            before = _snapshot(subject, pipeline)
            enable_cache(pipeline, policy)
            subject.sample(pipeline, 0)
            disable_cache(pipeline)
            assert _snapshot(subject, pipeline) == before, name
            assert torch.equal(subject.sample(pipeline, 0), uncached), name

    def test_the_context_manager_undoes_the_cache_on_an_exception(self, subject: Subject) -> None:
        pipeline = subject.create_pipeline()
        before = _snapshot(subject, pipeline)
        with pytest.raises(ZeroDivisionError), cached(pipeline, subject.token_policy):
            raise ZeroDivisionError
        assert _snapshot(subject, pipeline) == before
        with pytest.raises(MotionCacheError, match="not on"):
            summary(pipeline)

    def test_enabling_twice_is_an_error(self, subject: Subject) -> None:
        pipeline = subject.create_pipeline()
        enable_cache(pipeline, subject.token_policy)
        with pytest.raises(MotionCacheError, match="already on"):
            enable_cache(pipeline, subject.token_policy)

    def test_every_field_of_the_token_policy_changes_what_is_computed(self, subject: Subject) -> None:
        names = {field.name for field in fields(subject.token_policy)}  # pyright: ignore[reportArgumentType]
        assert names == {*subject.changes, *subject.elsewhere}
        pipeline = subject.create_pipeline()
        plain = _computed(subject, pipeline, subject.token_policy)
        for name, value in subject.changes.items():
            assert _computed(subject, pipeline, _changed(subject, {name: value})) != plain, name

    def test_every_decision_waits_for_the_device_once_at_most(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = subject.create_pipeline()
        enable_cache(pipeline, subject.token_policy)
        engine, transfers = get_hook(pipeline).engine, [0]
        decide, to_cpu = engine.decide, torch.Tensor.cpu

        def counted(calls: Sequence[Call]) -> list[Decision]:
            transfers.append(0)
            monkeypatch.setattr(torch.Tensor, "cpu", count)
            decisions = decide(calls)
            monkeypatch.setattr(torch.Tensor, "cpu", to_cpu)
            return decisions

        def count(tensor: torch.Tensor) -> torch.Tensor:
            transfers[-1] += 1
            return to_cpu(tensor)

        engine.decide = counted
        subject.sample(pipeline, 0)
        assert max(transfers) == 1


def _changed(subject: Subject, changes: Any) -> Any:
    return replace(subject.token_policy, **changes)  # pyright: ignore[reportArgumentType, reportUnknownVariableType]


def _computed(subject: Subject, pipeline: Any, policy: PolicyConfig) -> list[int]:
    """How many tokens were computed, record by record."""
    with cached(pipeline, policy):
        subject.sample(pipeline, 0)
        records: list[Record] = last_trace(pipeline).records
    return [record.computed for record in records]


def _sample_cached(subject: Subject, policy: PolicyConfig, seed: int) -> torch.Tensor:
    pipeline = subject.create_pipeline()
    enable_cache(pipeline, policy)
    return subject.sample(pipeline, seed)


def _as_indices(decision: Decision) -> Decision:
    """All tokens of a chunk as if they had been selected one by one, after its first step."""
    if decision.call.step < 1 or decision.due is not True:
        return decision
    return replace(decision, due=torch.arange(decision.call.tokens))


def _snapshot(subject: Subject, pipeline: Any) -> list[tuple[set[str], list[str]]]:
    """Which attributes the instances have, and what a model is saved as."""
    modules = [pipeline.transformer, *subject.blocks(pipeline)]
    saved: list[str] = list(pipeline.transformer.state_dict())
    attributes: list[set[str]] = [set(vars(instance)) - {"_diffusers_hook"} for instance in [pipeline, *modules]]
    return [(names, saved) for names in attributes]


@contextmanager
def _failing(module: torch.nn.Module, *, after: int) -> Generator[None]:
    """Let a module raise at the call that follows so many."""
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise RuntimeError("out of memory, say")

    handle = module.register_forward_pre_hook(PackedHook(fail))
    try:
        yield
    finally:
        handle.remove()


def _assert_close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> None:
    assert (ours - theirs).abs().max() <= tolerance
