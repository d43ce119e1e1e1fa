"""The policy `forecast` on SkyReels-V2: budgets, equalities, and what it keeps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import motioncache
from motioncache import ForecastConfig, MotionCacheError
from motioncache.api import get_hook
from motioncache.decision import ChunkState, Decision
from motioncache.forecast.calibration import Calibration
from motioncache.forecast.prediction import Forecast
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
        config = ForecastConfig(
            target_speedup=target, calibration=measured, allow_foreign_calibration=name == "without guidance"
        )
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


@pytest.fixture
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIONCACHE_CACHE", str(tmp_path))


@pytest.mark.usefixtures("_own_folder")
def test_a_model_without_a_calibration_is_measured_in_its_first_video() -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, "exact"):
        exact = generate(pipeline)
    with motioncache.cached(pipeline, target_speedup=4) as statistics:
        assert torch.equal(generate(pipeline), exact)
        assert "forecast with nothing yet: a window was computed in full and measured" in str(statistics)
        generate(pipeline)
        own = "forecast with what a window of this model said, of depth 2, width 48, guidance 6"
        assert own in str(statistics)
        assert statistics.summary().vanilla_flops / statistics.summary().flops == pytest.approx(4, rel=0.05)
        generate(pipeline, guidance_scale=2.0)
        assert statistics.summary().hit_ratio == 0
    with motioncache.cached(pipeline, target_speedup=4) as statistics:
        generate(pipeline)
    assert own in str(statistics)


@pytest.mark.usefixtures("_own_folder")
def test_the_first_window_of_a_long_video_is_measured_and_the_next_ones_planned() -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, target_speedup=4) as statistics, watched_planner() as seen:
        generate(pipeline, num_frames=137, overlap_history=17, num_inference_steps=24)
    assert [all(policy.planned) for _, policy in seen] == [True, False]
    assert "forecast with what a window of this model said" in str(statistics)


def test_a_video_says_how_far_its_forecasts_were_off(measured: str) -> None:
    """The probe makes each forecast that was followed by a computed step itself, from what the engine kept."""
    pipeline = make_pipeline()
    config = ForecastConfig(target_speedup=4.0, calibration=measured, order=2)
    with motioncache.cached(pipeline, config) as statistics, watched_planner() as seen:
        probe = get_hook(pipeline).engine.probe = Missed()
        generate(pipeline)
    errors = statistics.summary().forecast_errors
    assert errors is not None
    ((profile, _),) = seen
    found = probe.relative_errors(Calibration.load(Path(measured)).at(profile.sigmas, 2), scale=6.0)
    assert errors.count == len(found) > 3
    assert errors.found == pytest.approx(np.sqrt(np.mean(found)), rel=1e-4)
    assert f"forecasts were off by {errors.found:.1%}, {errors.expected:.1%} expected" in str(statistics)


def test_where_everything_is_computed_no_forecast_is_off(measured: str) -> None:
    pipeline = make_pipeline()
    with motioncache.cached(pipeline, ForecastConfig(target_speedup=1.0)) as statistics:
        generate(pipeline)
    assert statistics.summary().forecast_errors is None


class Missed(Probe):
    """Keeps every velocity that is computed, by chunk, branch and step."""

    def __init__(self) -> None:
        self._velocities: dict[int, dict[str, dict[int, torch.Tensor]]] = {}

    def committed(self, decision: Decision, state: ChunkState) -> None:
        call = decision.call
        if call.kv_only is None and decision.due:
            branches = self._velocities.setdefault(call.chunk, {"cond": {}, "uncond": {}})
            branches[call.branch][call.step] = state.outputs[0]

    def relative_errors(self, forecast: Forecast, scale: float) -> list[float]:
        """Squared error over squared velocity of each computed step that follows a gap."""
        found: list[float] = []
        for branches in self._velocities.values():
            guided = {s: scale * v + (1 - scale) * branches["uncond"][s] for s, v in branches["cond"].items()}
            steps = sorted(guided)
            for place, step in enumerate(steps[1:], start=1):
                if step - steps[place - 1] < 2:
                    continue
                known = steps[:place][::-1][:2]
                guess = sum(c * guided[s] for c, s in zip(forecast.coefficients(step, known), known, strict=True))
                found.append(float((guided[step] - guess).square().sum() / guided[step].square().sum()))
        return found
