"""The policy `forecast` on SkyReels-V2: budgets, equalities, and what it keeps."""

from typing import Any

import pytest
import torch

import motioncache
from motioncache import ForecastConfig, MotionCacheError
from motioncache.api import get_hook
from motioncache.decision import ChunkState, Decision
from motioncache.probe import Probe
from motioncache.record import Phase
from motioncache_eval.bench.ablation import ForecastAblationConfig, Unit
from motioncache_skyreels.bench import BenchAdapter

from ..calibration import watched_planner
from .conftest import generate, make_pipeline

CALLS: dict[str, dict[str, Any]] = {
    "asynchronous": {},
    "without guidance": {"guidance_scale": 1.0},
    "two windows": {"num_frames": 137, "overlap_history": 17},
    "full attention": {"ar_step": 0, "causal_block_size": 1},
    "synchronous": {"ar_step": 0},
}


@pytest.mark.parametrize("name", CALLS)
def test_the_budget_is_kept(name: str, measured: str) -> None:
    pipeline, call = make_pipeline(), {**CALLS[name], "num_inference_steps": 24}
    with motioncache.cached(pipeline, "exact") as exact:
        generate(pipeline, **call)
    most = exact.summary().flops
    for share in (0.75, 0.5):
        target = exact.summary().vanilla_flops / most / share
        config = ForecastConfig(target_speedup=target, calibration=measured)
        with motioncache.cached(pipeline, config) as statistics, watched_planner() as seen:
            generate(pipeline, **call)
        assert sum(profile.full_flops for profile, _ in seen) == pytest.approx(
            most, rel=1e-3
        )  # a prompt is embedded once
        known = sum(profile.flops(policy.planned) for profile, policy in seen)
        assert known == pytest.approx(statistics.summary().flops, rel=1e-3)
        assert 0.95 * share * most <= statistics.summary().flops <= 1.05 * share * most


@pytest.mark.parametrize("name", CALLS)
def test_a_target_of_1_computes_everything(name: str) -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, "exact"):
        exact = generate(pipeline, **CALLS[name])
    with motioncache.cached(pipeline, ForecastConfig(target_speedup=1.0)) as statistics:
        assert torch.equal(generate(pipeline, **CALLS[name]), exact)
    assert statistics.summary().hit_ratio == 0


class Velocities(Probe):
    """Keeps the velocities that were computed, and checks that forecasts are made from the last two."""

    def __init__(self) -> None:
        self.computed_ones: dict[tuple[str, int], list[torch.Tensor]] = {}
        self.forecasts = 0

    def committed(self, decision: Decision, state: ChunkState) -> None:
        key = (decision.call.branch, decision.call.chunk)
        if decision.call.kv_only is not None:
            return
        if decision.due:
            self.computed_ones.setdefault(key, []).insert(0, state.outputs[0])
        else:
            assert all(a is b for a, b in zip(state.outputs, self.computed_ones[key], strict=False))
            assert len(decision.coefficients) == len(state.outputs) <= 2
            self.forecasts += 1


def test_a_forecast_is_the_sum_of_velocities_times_coefficients(measured: str) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, ForecastConfig(target_speedup=4.0, calibration=measured))
    engine = get_hook(pipeline).engine
    probe = engine.probe = Velocities()
    generate(pipeline)
    assert probe.forecasts > 10
    shapes = {velocity.shape for velocities in probe.computed_ones.values() for velocity in velocities}
    assert shapes == {(1, 4, 5, 4, 8)}  # a velocity of a chunk, and not a hidden state
    decided = {(r.iteration, r.computed > 0) for r in motioncache.last_trace(pipeline).denoise_records()}
    assert len(decided) == len({iteration for iteration, _ in decided})  # all chunks and branches alike


def test_an_impossible_target_is_refused(measured: str) -> None:
    pipeline = make_pipeline()
    motioncache.enable_cache(pipeline, ForecastConfig(target_speedup=50, calibration=measured))
    with pytest.raises(MotionCacheError, match=r"target_speedup: 50 is too much .* pass \d\.\d+ or less"):
        generate(pipeline)
    motioncache.disable_cache(pipeline)
    generate(pipeline)


def test_chunks_that_decide_for_themselves_go_by_their_own_step(measured: str) -> None:
    pipeline = make_pipeline()
    config = ForecastAblationConfig(target_speedup=4.0, calibration=measured, unit=Unit.chunk)
    with motioncache.cached(pipeline, config, adapter=BenchAdapter()):
        generate(pipeline)
        trace = motioncache.last_trace(pipeline)
    denoised = [record for record in trace.records if record.phase is Phase.forecast]
    computed = {record.step for record in denoised if record.computed}
    assert computed == {record.step for record in denoised} - {r.step for r in denoised if not r.computed}
    in_an_iteration: dict[int, set[bool]] = {}
    for record in denoised:
        in_an_iteration.setdefault(record.iteration, set()).add(record.computed > 0)
    assert {True, False} in in_an_iteration.values()  # what one decision for the window never does
