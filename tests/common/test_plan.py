"""Plans against all plans there are, on courses that are small enough to try them."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from motioncache_eval.bench.ablation import ForecastAblationConfig, Schedule, Unit

from motioncache.errors import ConfigError
from motioncache.forecast import policy
from motioncache.forecast.calibration import Calibration, Forecast, ModelIdentity
from motioncache.forecast.planner import LONGEST, Course, even_plan, solve_plan
from motioncache.forecast.policy import ForecastConfig, ForecastPlanner

STEPS = 6
LEVELS = tuple(1 - i / STEPS for i in range(STEPS))


def forecast(order: int = 2, seed: int = 0) -> Forecast:
    """Of velocities that turn, quickly at first."""
    rng = np.random.default_rng(seed)
    velocities = np.cumsum(rng.normal(size=(STEPS, 20)) * np.linspace(2, 0.3, STEPS)[:, None], axis=0)
    return Forecast(LEVELS, velocities @ velocities.T / 20, np.linspace(3, 1, STEPS), order)


MODEL = ModelIdentity(6, 128, weights=(0.5, -0.25))


def calibration() -> Calibration:
    given = forecast()
    return Calibration(MODEL, LEVELS, products=given.products, sensitivity=given.sensitivity)


@pytest.fixture(autouse=True)
def _nothing_warned_yet() -> None:
    policy._warn_once.cache_clear()  # pyright: ignore[reportPrivateUsage]


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
    below = max(cost(given, p) for p in product((False, True), repeat=given.iterations) if cost(given, p) <= budget)
    if below >= 0.95 * budget:
        assert 0.95 * budget <= cost(given, plan) <= budget
    others = [p for p in product((False, True), repeat=given.iterations) if cost(given, p) <= cost(given, plan)]
    best = min(harm(given, p, of) for p in others)
    # What the price leaves of the budget is filled up one by one, which need not be the best way.
    assert best <= harm(given, plan, of) <= 1.25 * best + 1e-12
    assert abs(budget - cost(given, plan)) < max(given.cost)


def test_a_budget_between_two_plans_takes_the_nearer() -> None:
    """Of 6 steps of equal cost, 2 and 3 are a third and half of them."""
    levels = forecast().levels
    given = Course(iterations=STEPS, starts=(0,), cost=(10,) * STEPS, base=0, levels=levels, vanilla=60)
    assert [sum(solve_plan(given, forecast(), budget)) for budget in (20, 24, 26, 29, 30)] == [2, 2, 3, 3, 3]


def test_a_chunk_is_computed_where_it_begins() -> None:
    given = course()
    plan = solve_plan(given, forecast(), 0.4 * given.whole)
    assert all(plan[start] for start in given.starts)


def test_a_budget_for_everything_computes_everything() -> None:
    given = course()
    assert all(solve_plan(given, forecast(), given.whole))


def test_too_small_a_budget_says_what_is_possible() -> None:
    given = course()
    said = r"target_speedup: 20 is too much .* cannot be left out; pass \d\.\d\d or"
    with pytest.raises(ConfigError, match=said) as raised:
        solve_plan(given, forecast(), 0.1 * given.whole)
    possible = float(str(raised.value).partition("pass ")[2].split()[0])
    plan = solve_plan(given, forecast(), given.vanilla / possible)
    assert solve_plan(given, forecast(), 0.96 * cost(given, plan)) == plan  # within 5 % of it
    assert given.vanilla / cost(given, plan) == pytest.approx(possible, rel=0.01)


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
    with pytest.raises(ConfigError, match=r"every chunk's first step cannot be left out; pass \d"):
        even_plan(course(), 0.1 * course().whole)


def test_a_chunk_that_decides_for_itself_costs_what_the_window_does() -> None:
    given = course()
    alone = given.of_one_chunk()
    assert alone.iterations == STEPS
    assert alone.whole == pytest.approx(given.whole, rel=0.01)


def test_left_out_ingredients_change_the_plan(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")

    def made(config: ForecastConfig) -> tuple[bool, ...]:
        return tuple(ForecastPlanner(config, tmp_path / "config.yaml").plan(course(), MODEL).plan)

    def plan(**left_out: Any) -> tuple[bool, ...]:
        return made(ForecastAblationConfig(target_speedup=4, **left_out))

    assert plan() == made(ForecastConfig(target_speedup=4))
    assert plan(schedule=Schedule.even) == even_plan(course(), 0.5 * course().whole)
    assert len(plan(unit=Unit.chunk)) == STEPS


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (ModelIdentity(1, 1, weights=()), "measured on depth 1 and width 1, not 6 and 128"),
        (replace(MODEL, weights=(0.5, 0.25)), "measured on other weights"),
    ],
)
def test_a_calibration_of_another_model_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: ModelIdentity, said: str
) -> None:
    replace(calibration(), model=other).save(tmp_path / "calibration.json")
    planner = ForecastPlanner(ForecastConfig(target_speedup=3), tmp_path / "config.yaml")
    for _ in range(2):
        assert 0 < sum(planner.plan(course(), MODEL).plan) < course().iterations
    warned = [text for record in caplog.records if "calibration" in (text := record.getMessage())]
    assert len(warned) == 1
    assert said in warned[0]
    assert "run python -m motioncache_eval.calibrate" in warned[0]


def test_more_steps_than_were_measured_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    all_ = calibration()
    few = {"levels": LEVELS[::2], "products": all_.products[::2, ::2], "sensitivity": all_.sensitivity[::2]}
    replace(all_, **few).save(tmp_path / "few.json")
    config = ForecastConfig(target_speedup=3, calibration=str(tmp_path / "few.json"))
    ForecastPlanner(config, tmp_path / "none.yaml").plan(course(), MODEL)
    assert "measured with 3 steps, not 6" in caplog.text


def test_a_target_that_cannot_be_met_says_what_is_reached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibration().save(tmp_path / "calibration.json")
    given = replace(course((0,)), cost=(10,) * STEPS, base=0, vanilla=60)
    planner = ForecastPlanner(ForecastConfig(target_speedup=2.2), tmp_path / "config.yaml")
    assert sum(planner.plan(given, MODEL).plan) == 3
    assert "target_speedup 2.2: a window has too few iterations to meet it; the plan reaches 2" in caplog.text
    caplog.clear()
    ForecastPlanner(ForecastConfig(target_speedup=2), tmp_path / "config.yaml").plan(given, MODEL)
    assert not caplog.text


def test_a_calibration_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no calibration"):
        ForecastPlanner(ForecastConfig(target_speedup=1.1), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="there is no calibration"):
        ForecastPlanner(ForecastConfig(target_speedup=1.0, calibration="none.json"), tmp_path / "config.yaml")


def test_all_steps_need_no_calibration(tmp_path: Path) -> None:
    """Otherwise a model could not be measured for its first one."""
    planner = ForecastPlanner(ForecastConfig(target_speedup=1.0), tmp_path / "config.yaml")
    assert all(planner.plan(course(), MODEL).plan)


def test_each_calibration_warns_for_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.json", "b.json"):
        replace(calibration(), model=ModelIdentity(1, 1, weights=())).save(tmp_path / name)
        config = ForecastConfig(target_speedup=3, calibration=str(tmp_path / name))
        ForecastPlanner(config, tmp_path / "config.yaml").plan(course(), MODEL)
    assert "a.json was measured on" in caplog.text
    assert "b.json was measured on" in caplog.text


@pytest.mark.parametrize("starts", [(0,), (0, 1), (0, 3), (0, 2, 4), (0, 1, 2, 3)])
def test_a_budget_that_some_plan_meets_is_met(starts: tuple[int, ...]) -> None:
    given = course(starts)
    plans = [p for p in product((False, True), repeat=given.iterations) if harm(given, p, forecast()) < np.inf]
    for share in np.linspace(0.5, 0.95, 19):
        budget = share * given.whole
        best = min(abs(cost(given, plan) / budget - 1) for plan in plans)
        met = abs(cost(given, solve_plan(given, forecast(), budget)) / budget - 1)
        assert met <= max(0.05, best)


def test_a_speedup_that_chunk_reuse_reaches_computes_everything(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")
    planner = ForecastPlanner(ForecastConfig(target_speedup=2), tmp_path / "config.yaml")
    assert all(planner.plan(course(), MODEL).plan)
