"""Forecasts in two parts: without the prompt, and what guidance adds."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from motioncache.decision import Call
from motioncache.forecast.budget import ForecastConfig, ForecastPlanner
from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache.forecast.guided import GuidedForecast, two_parts
from motioncache.forecast.policy import ForecastMemory
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile

SIGMAS = (1.0, 0.75, 0.5, 0.25)
SHARES = {"cond": 6.0, "uncond": -5.0}
RNG = np.random.default_rng(5)


def velocities(turning: float) -> tuple[np.ndarray, np.ndarray]:
    """Of u and c - u, `[4, 500]`: the first stays as it is but for noise, the second turns from step to step."""
    angle = turning * np.arange(4)
    across, along = RNG.normal(size=(2, 500))
    without = RNG.normal(size=500) + 0.05 * RNG.normal(size=(4, 500))
    return without, 0.3 * (np.cos(angle)[:, None] * along + np.sin(angle)[:, None] * across)


def calibration(without: np.ndarray, added: np.ndarray, *, parts: bool = True) -> Calibration:
    both = np.concatenate([without, added])
    guided = without + SHARES["cond"] * added
    return Calibration(
        ModelIdentity(1, 8, weights=(0.5,), guidance=SHARES["cond"]),
        SIGMAS,
        products=guided @ guided.T / 500,
        sensitivity=np.array([4.0, 3.0, 2.0, 1.0]),
        parts=both @ both.T / 500 if parts else None,
    )


def guided(
    forecast: Forecast, without: np.ndarray, added: np.ndarray, step: int, computed: tuple[int, ...]
) -> np.ndarray:
    """What the branches' forecasts add up to."""
    by_branch = {"cond": without + added, "uncond": without}
    total = np.zeros(500)
    for branch, values in by_branch.items():
        coefficients = forecast.coefficients(step, computed, branch)
        total += SHARES[branch] * sum(c * values[s] for c, s in zip(coefficients, computed, strict=True))
    return total


@pytest.mark.parametrize("computed", [(1,), (1, 0)])
def test_the_branches_add_up_to_the_best_forecast_from_both_parts(computed: tuple[int, ...]) -> None:
    without, added = velocities(0.5)
    forecast = calibration(without, added).at(SIGMAS, 2, SHARES)
    assert isinstance(forecast, GuidedForecast)
    wanted = without[2] + 6 * added[2]
    known = np.stack([part[s] for part in (without, added) for s in computed])
    best = known.T @ np.linalg.lstsq(known.T, wanted, rcond=None)[0]
    assert guided(forecast, without, added, 2, computed) == pytest.approx(best, abs=1e-3)
    error = ((wanted - best) ** 2).mean()
    assert forecast.errors(computed)[2] == pytest.approx(error * forecast.weight[2], rel=1e-3)


def test_a_part_that_turns_is_forecast_better_by_itself() -> None:
    without, added = velocities(0.9)
    together = calibration(without, added, parts=False).at(SIGMAS, 2, SHARES)
    apart = calibration(without, added).at(SIGMAS, 2, SHARES)
    assert not isinstance(together, GuidedForecast)
    assert apart.errors((1, 0))[2] < 0.7 * together.errors((1, 0))[2]


def test_its_harm_is_that_of_a_forecast_of_the_guided_velocity_where_both_parts_go_alike() -> None:
    without, _ = velocities(0.5)
    added = 0.2 * without
    both = calibration(without, added)
    apart, together = both.at(SIGMAS, 2, SHARES), both.at(SIGMAS, 2)
    assert apart.products == pytest.approx(together.products)
    assert apart.harm((1, 0)) == pytest.approx(together.harm((1, 0)), rel=1e-3, abs=1e-9)


def test_another_schedule_mixes_the_parts_as_it_mixes_the_whole() -> None:
    without, added = velocities(0.5)
    both = calibration(without, added)
    other = (1.0, 0.6, 0.3)
    assert both.at(other, 2, SHARES).products == pytest.approx(both.at(other, 2).products)


def test_parts_survive_the_file_and_without_them_there_are_none(tmp_path: Path) -> None:
    made = calibration(*velocities(0.5))
    made.save(tmp_path / "a.json")
    assert Calibration.load(tmp_path / "a.json").parts == pytest.approx(made.parts, rel=1e-6)
    calibration(*velocities(0.5), parts=False).save(tmp_path / "b.json")
    assert Calibration.load(tmp_path / "b.json").parts is None


@pytest.mark.parametrize(("scale", "alike"), [(6.0, False), (4.0, True)])
def test_the_branches_have_coefficients_of_their_own_at_strong_guidance_alone(
    scale: float, alike: bool, tmp_path: Path
) -> None:
    made = calibration(*velocities(0.9))
    model = replace(made.model, guidance=scale)
    replace(made, model=model).save(tmp_path / "a.json")
    profile = WindowProfile(
        iterations=4, starts=(0,), iteration_flops=(100,) * 4, fixed_flops=0, sigmas=SIGMAS, uncached_flops=400
    )
    config = ForecastConfig(target_speedup=2.0, calibration=str(tmp_path / "a.json"))
    policy = ForecastPlanner(config, tmp_path / "config.yaml").plan(profile, model, SHARES)
    step = policy.planned.index(False)
    memory = ForecastMemory(computed=tuple(reversed(range(step)))[:2])
    calls = [Call(branch=b, chunk=0, step=step, iteration=step, tokens=1, attended=1) for b in SHARES]
    cond, uncond = policy.decide(calls, [memory] * 2, cast("Any", None))
    assert (cond.coefficients == uncond.coefficients) == alike


@pytest.mark.parametrize("shares", [{"only": 1.0}, {"a": 0.5, "b": 0.5}, {"a": 3.0, "b": -1.0, "c": -1.0}])
def test_guidance_that_is_no_two_branches_has_no_parts(shares: dict[str, float]) -> None:
    assert two_parts(shares) is None
