"""Plans against all plans there are, on courses that are small enough to try them."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motioncache.config import ForecastAblationConfig, ForecastConfig, Schedule, Unit
from motioncache.errors import ConfigError
from motioncache.forecast import Calibration, Forecast
from motioncache.plan import LONGEST, Course, even_plan, solve_plan
from motioncache.policy.forecast import plan_forecast

STEPS = 6
LEVELS = tuple(1 - i / STEPS for i in range(STEPS))


def forecast(order: int = 2, seed: int = 0) -> Forecast:
    """Of velocities that turn, quickly at first."""
    rng = np.random.default_rng(seed)
    velocities = np.cumsum(rng.normal(size=(STEPS, 20)) * np.linspace(2, 0.3, STEPS)[:, None], axis=0)
    return Forecast(LEVELS, velocities @ velocities.T / 20, np.linspace(3, 1, STEPS), order)


def calibration() -> Calibration:
    """Of a model of 6 layers of width 128."""
    given = forecast()
    return Calibration(layers=6, width=128, levels=LEVELS, products=given.products, sensitivity=given.sensitivity)


def course(starts: tuple[int, ...] = (0, 2, 4)) -> Course:
    iterations = max(starts) + STEPS
    cost = tuple(sum(0 <= i - start < STEPS for start in starts) * 10 for i in range(iterations))
    whole = sum(cost) + 7
    return Course(iterations=iterations, starts=starts, cost=cost, base=7, levels=LEVELS, vanilla=2 * whole)


def harm(given: Course, plan: tuple[bool, ...], of: Forecast) -> float:
    """Errors of all forecasts of a plan, chunk by chunk; infinite where there is nothing to forecast from."""
    total = 0.0
    for start in given.starts:
        computed: list[int] = []
        for step in range(STEPS):
            if plan[start + step]:
                computed.insert(0, step)
            elif not computed:
                return np.inf
            elif step + 1 == STEPS or plan[start + step + 1]:
                total += of.harm(computed)[step]
    return total


def cost(given: Course, plan: tuple[bool, ...]) -> int:
    return given.base + sum(c for c, computed in zip(given.cost, plan, strict=True) if computed)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("share", [0.45, 0.6, 0.8])
@pytest.mark.parametrize("starts", [(0,), (0, 2, 4), (0, 0)])
def test_no_plan_of_its_cost_does_less_harm(starts: tuple[int, ...], share: float, order: int) -> None:
    given, of = course(starts), forecast(order)
    budget = share * given.whole
    plan = solve_plan(given, of, budget)
    assert cost(given, plan) <= budget
    others = [p for p in product((False, True), repeat=given.iterations) if cost(given, p) <= cost(given, plan)]
    best = min(harm(given, p, of) for p in others)
    # What the price leaves of the budget is filled up one by one, which need not be the best way.
    assert best <= harm(given, plan, of) <= 1.25 * best + 1e-12
    assert budget - cost(given, plan) < max(given.cost)


def test_a_chunk_is_computed_where_it_begins() -> None:
    given = course()
    plan = solve_plan(given, forecast(), 0.4 * given.whole)
    assert all(plan[start] for start in given.starts)


def test_a_budget_for_everything_computes_everything() -> None:
    given = course()
    assert all(solve_plan(given, forecast(), given.whole))


def test_too_small_a_budget_says_what_is_possible() -> None:
    given = course()
    with pytest.raises(ConfigError, match=r"target_speedup asks for 10.0% .* left out and take \d\d\.\d%: lower it"):
        solve_plan(given, forecast(), 0.1 * given.whole)


def test_no_gap_is_longer_than_the_limit() -> None:
    steps = 3 * LONGEST
    levels = tuple(1 - i / steps for i in range(steps))
    given = Course(iterations=steps, starts=(0,), cost=(1,) * steps, base=0, levels=levels, vanilla=steps)
    plan = solve_plan(given, Forecast(levels, np.ones((steps, steps)), np.ones(steps), 2), 0.2 * steps)
    computed = np.flatnonzero(plan)
    assert np.diff([*computed, steps]).max() <= LONGEST


@pytest.mark.parametrize("share", [0.9, 0.6, 0.45])
def test_even_plans_spend_the_budget_in_equal_gaps(share: float) -> None:
    given = course()
    plan = even_plan(given, share * given.whole)
    assert cost(given, plan) <= share * given.whole < cost(given, plan) + 2 * max(given.cost)
    assert all(plan[start] for start in given.starts)
    alone = even_plan(given.of_one_chunk(), share * given.whole)
    gaps = np.diff(np.flatnonzero([*alone, True]))
    assert gaps.max() - gaps.min() <= 1


def test_a_budget_below_the_beginnings_of_chunks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"every chunk's first step cannot be left out and take \d+\.\d%: lower it"):
        even_plan(course(), 0.1 * course().whole)


def test_a_chunk_that_decides_for_itself_costs_what_the_window_does() -> None:
    given = course()
    alone = given.of_one_chunk()
    assert alone.iterations == STEPS
    assert alone.whole == pytest.approx(given.whole, rel=0.01)


def test_left_out_ingredients_change_the_plan(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")

    def plan(**left_out: Any) -> tuple[bool, ...]:
        config = ForecastAblationConfig(target_speedup=4, **left_out)
        return tuple(plan_forecast(config, course(), presets=tmp_path / "config.yaml", size=(6, 128)).plan)

    plain = ForecastConfig(target_speedup=4)
    assert plan() == tuple(plan_forecast(plain, course(), presets=tmp_path / "config.yaml", size=(6, 128)).plan)
    assert plan(schedule=Schedule.even) == even_plan(course(), 0.5 * course().whole)
    assert len(plan(unit=Unit.chunk)) == STEPS
    assert plan(skipped=(2, 3)) == (True, True, False, False, *(True,) * (course().iterations - 4))


def test_a_calibration_of_another_size_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given, presets = course(), tmp_path / "config.yaml"
    replace(calibration(), layers=1, width=1).save(tmp_path / "calibration.json")
    for _ in range(2):
        policy = plan_forecast(ForecastConfig(target_speedup=3), given, presets=presets, size=(6, 128))
        assert 0 < sum(policy.plan) < given.iterations
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1
    assert "calibration.json was measured on 1 layers of width 1, not 6 layers of width 128" in warned[0]


def test_more_steps_than_were_measured_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    all_ = calibration()
    few = {"levels": LEVELS[::2], "products": all_.products[::2, ::2], "sensitivity": all_.sensitivity[::2]}
    replace(all_, **few).save(tmp_path / "few.json")
    config = ForecastConfig(target_speedup=3, calibration=str(tmp_path / "few.json"))
    plan_forecast(config, course(), presets=tmp_path / "none.yaml", size=(6, 128))
    assert "few.json was measured with 3 steps, not 6" in caplog.text


def test_a_speedup_that_chunk_reuse_reaches_needs_no_calibration(tmp_path: Path) -> None:
    policy = plan_forecast(ForecastConfig(target_speedup=2), course(), presets=tmp_path / "none.yaml", size=(6, 128))
    assert all(policy.plan)
