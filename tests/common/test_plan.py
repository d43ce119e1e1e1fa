"""The planner against every possible choice of iterations, on windows that are small enough to try them all."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motioncache.errors import ConfigError
from motioncache.forecast import budget
from motioncache.forecast.budget import ForecastConfig, ForecastPlanner
from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache.forecast.gap_errors import MAX_GAP
from motioncache.forecast.planner import plan_evenly, plan_iterations
from motioncache.forecast.prediction import Forecast
from motioncache.forecast.profile import WindowProfile
from motioncache_eval.bench.ablation import ForecastAblationConfig, Spacing, Unit

STEPS = 6
SIGMAS = tuple(1 - i / STEPS for i in range(STEPS))


def forecast(order: int = 2, seed: int = 0) -> Forecast:
    """A forecast of velocities that turn, quickly at first."""
    rng = np.random.default_rng(seed)
    velocities = np.cumsum(rng.normal(size=(STEPS, 20)) * np.linspace(2, 0.3, STEPS)[:, None], axis=0)
    return Forecast(SIGMAS, velocities @ velocities.T / 20, np.linspace(3, 1, STEPS), order)


MODEL = ModelIdentity(6, 128, weights=(0.5, -0.25))

SHARES = {"cond": 1.0}


def calibration() -> Calibration:
    measured = forecast()
    return Calibration(MODEL, SIGMAS, products=measured.products, sensitivity=measured.sensitivity)


@pytest.fixture(autouse=True)
def _nothing_kept_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIONCACHE_CACHE", str(tmp_path / "kept"))
    budget._warn_once.cache_clear()  # pyright: ignore[reportPrivateUsage]


def window(starts: tuple[int, ...] = (0, 2, 4)) -> WindowProfile:
    """A window whose chunks start at these iterations; a denoise step of a chunk takes 10 FLOPs."""
    iterations = max(starts) + STEPS
    iteration_flops = tuple(sum(0 <= i - start < STEPS for start in starts) * 10 for i in range(iterations))
    return WindowProfile(
        iterations=iterations,
        starts=starts,
        iteration_flops=iteration_flops,
        fixed_flops=7,
        sigmas=SIGMAS,
        uncached_flops=2 * (sum(iteration_flops) + 7),
    )


def single_chunk(steps: int, flops: int, sigmas: tuple[float, ...]) -> WindowProfile:
    """A window of one chunk whose denoise steps take so many FLOPs each."""
    return WindowProfile(
        iterations=steps,
        starts=(0,),
        iteration_flops=(flops,) * steps,
        fixed_flops=0,
        sigmas=sigmas,
        uncached_flops=steps * flops,
    )


def harm(profile: WindowProfile, planned: tuple[bool, ...], of: Forecast) -> float:
    """Error of all forecasts, chunk by chunk; infinite where there is nothing to forecast from."""
    total = 0.0
    for start in profile.starts:
        computed: list[int] = []
        for step in range(STEPS):
            if planned[start + step]:
                computed.insert(0, step)
            elif not computed:
                return np.inf
            elif step + 1 == STEPS or planned[start + step + 1]:
                total += of.harm(computed)[step]
    return total


def choices(profile: WindowProfile) -> list[tuple[bool, ...]]:
    """Every possible choice of iterations."""
    return list(product((False, True), repeat=profile.iterations))


def flops_of(profile: WindowProfile, planned: tuple[bool, ...]) -> int:
    return profile.fixed_flops + sum(
        c for c, computed in zip(profile.iteration_flops, planned, strict=True) if computed
    )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("share", [0.45, 0.6, 0.8])
@pytest.mark.parametrize("starts", [(0,), (0, 2, 4), (0, 0)])
def test_no_choice_of_the_same_flops_does_less_harm(starts: tuple[int, ...], share: float, order: int) -> None:
    profile, of = window(starts), forecast(order)
    budget = share * profile.full_flops
    planned = plan_iterations(profile, of, budget)
    below = max(flops for choice in choices(profile) if (flops := flops_of(profile, choice)) <= budget)
    if below >= 0.95 * budget:
        assert 0.95 * budget <= flops_of(profile, planned) <= budget
    no_dearer = [choice for choice in choices(profile) if flops_of(profile, choice) <= flops_of(profile, planned)]
    best = min(harm(profile, choice, of) for choice in no_dearer)
    # What the price leaves of the budget is filled up one by one, which need not be the best way.
    assert best <= harm(profile, planned, of) <= 1.25 * best + 1e-12
    assert abs(budget - flops_of(profile, planned)) < max(profile.iteration_flops)


def test_a_budget_between_two_choices_takes_the_nearer() -> None:
    """Of 6 steps of equal cost, 2 and 3 are a third and half of them."""
    profile = single_chunk(STEPS, 10, SIGMAS)
    assert [sum(plan_iterations(profile, forecast(), budget)) for budget in (20, 24, 26, 29, 30)] == [2, 2, 3, 3, 3]


def test_a_chunk_is_computed_where_it_starts() -> None:
    profile = window()
    planned = plan_iterations(profile, forecast(), 0.4 * profile.full_flops)
    assert all(planned[start] for start in profile.starts)


def test_a_budget_for_everything_computes_everything() -> None:
    profile = window()
    assert all(plan_iterations(profile, forecast(), profile.full_flops))


def test_too_small_a_budget_says_what_is_possible() -> None:
    profile = window()
    said = r"target_speedup: 20 is too much .* cannot be left out; pass \d\.\d\d or"
    with pytest.raises(ConfigError, match=said) as raised:
        plan_iterations(profile, forecast(), 0.1 * profile.full_flops)
    possible = float(str(raised.value).partition("pass ")[2].split()[0])
    planned = plan_iterations(profile, forecast(), profile.uncached_flops / possible)
    assert plan_iterations(profile, forecast(), 0.96 * flops_of(profile, planned)) == planned  # within 5 % of it
    assert profile.uncached_flops / flops_of(profile, planned) == pytest.approx(possible, rel=0.01)


def test_no_gap_is_longer_than_the_limit() -> None:
    steps = 3 * MAX_GAP
    sigmas = tuple(1 - i / steps for i in range(steps))
    profile = single_chunk(steps, 1, sigmas)
    planned = plan_iterations(profile, Forecast(sigmas, np.ones((steps, steps)), np.ones(steps), 2), 0.2 * steps)
    computed = np.flatnonzero(planned)
    assert np.diff([*computed, steps]).max() <= MAX_GAP


@pytest.mark.parametrize("share", [0.9, 0.6, 0.45])
def test_evenly_planned_iterations_spend_the_budget_in_equal_gaps(share: float) -> None:
    profile = window()
    planned = plan_evenly(profile, share * profile.full_flops)
    assert (
        flops_of(profile, planned)
        <= share * profile.full_flops
        < flops_of(profile, planned) + 2 * max(profile.iteration_flops)
    )
    assert all(planned[start] for start in profile.starts)
    alone = plan_evenly(profile.of_one_chunk(), share * profile.full_flops)
    gaps = np.diff(np.flatnonzero([*alone, True]))
    assert gaps.max() - gaps.min() <= 1


def test_a_budget_below_the_starts_of_chunks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"every chunk's first step cannot be left out; pass \d"):
        plan_evenly(window(), 0.1 * window().full_flops)


def test_a_chunk_that_decides_for_itself_costs_what_the_window_does() -> None:
    profile = window()
    alone = profile.of_one_chunk()
    assert alone.iterations == STEPS
    assert alone.full_flops == pytest.approx(profile.full_flops, rel=0.01)


def test_left_out_ingredients_change_what_is_planned(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")

    def planned(config: ForecastConfig) -> tuple[bool, ...]:
        return tuple(config.planner(tmp_path / "config.yaml").plan(window(), MODEL, SHARES).planned)

    def without(**left_out: Any) -> tuple[bool, ...]:
        return planned(ForecastAblationConfig(target_speedup=4, **left_out))

    assert without() == planned(ForecastConfig(target_speedup=4))
    assert without(spacing=Spacing.even) == plan_evenly(window(), 0.5 * window().full_flops)
    assert len(without(unit=Unit.chunk)) == STEPS


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (ModelIdentity(1, 1, weights=()), "measured on depth 1 and width 1, not 6 and 128"),
        (replace(MODEL, weights=(0.5, 0.25)), "measured on other weights"),
    ],
)
def test_a_file_of_another_model_is_refused_unless_it_is_allowed(
    tmp_path: Path, other: ModelIdentity, said: str
) -> None:
    replace(calibration(), model=other).save(tmp_path / "other.json")
    config = ForecastConfig(target_speedup=3, calibration=str(tmp_path / "other.json"))
    message = f"other.json was {said}: pass calibration=auto .* or pass allow_foreign_calibration=True"
    with pytest.raises(ConfigError, match=message):
        config.planner(tmp_path / "config.yaml").check_model(MODEL)
    allowed = replace(config, allow_foreign_calibration=True).planner(tmp_path / "config.yaml")
    allowed.check_model(MODEL)
    assert 0 < sum(allowed.plan(window(), MODEL, SHARES).planned) < window().iterations
    assert allowed.used is not None
    assert "of another model: depth" in allowed.used


def test_a_plan_says_which_calibration_it_is_made_with(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")
    planner = ForecastConfig(target_speedup=3).planner(tmp_path / "config.yaml")
    planner.plan(window(), MODEL, SHARES)
    assert planner.used == "the shipped calibration, of depth 6, width 128, 6 steps"
    everything = ForecastConfig(target_speedup=1).planner(tmp_path / "none.yaml")
    everything.plan(window(), MODEL, SHARES)
    assert everything.used is None


def few_steps() -> Calibration:
    all_ = calibration()
    few = {"sigmas": SIGMAS[::2], "products": all_.products[::2, ::2], "sensitivity": all_.sensitivity[::2]}
    return replace(all_, **few)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (replace(calibration(), model=replace(MODEL, guidance=4.0)), "with a guidance scale of 4, not 6"),
        (calibration(), "with a guidance scale of its own, not 6"),
        (replace(few_steps(), model=replace(MODEL, guidance=6.0)), "with 3 steps, not 6"),
    ],
)
def test_a_file_of_another_guidance_or_fewer_steps_is_refused_unless_it_is_allowed(
    tmp_path: Path, file: Calibration, said: str
) -> None:
    file.save(tmp_path / "other.json")
    strong = replace(MODEL, guidance=6.0)
    config = ForecastConfig(target_speedup=3, calibration=str(tmp_path / "other.json"))
    planner = config.planner(tmp_path / "config.yaml")
    planner.check_model(strong)
    message = f"other.json was measured {said}: pass calibration=auto .* or pass allow_foreign_calibration=True"
    with pytest.raises(ConfigError, match=message):
        planner.plan(window(), strong, SHARES)
    allowed = replace(config, allow_foreign_calibration=True).planner(tmp_path / "config.yaml")
    assert not all(allowed.plan(window(), strong, SHARES).planned)


def test_of_the_shipped_files_the_one_of_the_guidance_scale_is_taken_and_else_the_model_is_measured(
    tmp_path: Path,
) -> None:
    for name, scale in (("calibration.json", 4.0), ("calibration-guidance-6.json", 6.0)):
        replace(calibration(), model=replace(MODEL, guidance=scale)).save(tmp_path / name)
    planner = ForecastConfig(target_speedup=3).planner(tmp_path / "config.yaml")
    for scale, name in ((4.0, "guidance 4,"), (6.0, "guidance 6,"), (7.0, "nothing yet")):
        policy = planner.plan(window(), replace(MODEL, guidance=scale, weights=MODEL.weights), SHARES)
        assert all(policy.planned) == (scale == 7.0)
        assert name in str(planner.used)
    anyway = ForecastConfig(target_speedup=3, allow_foreign_calibration=True).planner(tmp_path / "config.yaml")
    assert not all(anyway.plan(window(), replace(MODEL, guidance=7.0), SHARES).planned)
    assert "guidance 4," in str(anyway.used)


def test_a_video_of_more_steps_than_the_shipped_file_has_is_measured(tmp_path: Path) -> None:
    few_steps().save(tmp_path / "calibration.json")
    planner = ForecastConfig(target_speedup=3).planner(tmp_path / "config.yaml")
    assert all(planner.plan(window(), MODEL, SHARES).planned)


def test_a_target_that_cannot_be_met_says_what_is_reached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibration().save(tmp_path / "calibration.json")
    profile = single_chunk(STEPS, 10, SIGMAS)
    planner = ForecastPlanner(ForecastConfig(target_speedup=2.2), tmp_path / "config.yaml")
    assert sum(planner.plan(profile, MODEL, SHARES).planned) == 3
    assert "target_speedup 2.2: a window has too few iterations to meet it; the plan reaches 2" in caplog.text
    caplog.clear()
    ForecastPlanner(ForecastConfig(target_speedup=2), tmp_path / "config.yaml").plan(profile, MODEL, SHARES)
    assert not caplog.text


def test_a_calibration_that_cannot_be_read_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text("{")
    with pytest.raises(ConfigError, match="is not a calibration"):
        ForecastPlanner(ForecastConfig(target_speedup=1.1), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="there is no calibration"):
        ForecastPlanner(ForecastConfig(target_speedup=1.0, calibration="none.json"), tmp_path / "config.yaml")


def test_all_steps_need_no_calibration(tmp_path: Path) -> None:
    """Otherwise a model could not be measured for its first one."""
    planner = ForecastPlanner(ForecastConfig(target_speedup=1.0), tmp_path / "config.yaml")
    assert all(planner.plan(window(), MODEL, SHARES).planned)


@pytest.mark.parametrize("starts", [(0,), (0, 1), (0, 3), (0, 2, 4), (0, 1, 2, 3)])
def test_a_budget_that_some_choice_meets_is_met(starts: tuple[int, ...]) -> None:
    profile = window(starts)
    possible = [choice for choice in choices(profile) if harm(profile, choice, forecast()) < np.inf]
    for share in np.linspace(0.5, 0.95, 19):
        budget = share * profile.full_flops
        best = min(abs(flops_of(profile, choice) / budget - 1) for choice in possible)
        met = abs(flops_of(profile, plan_iterations(profile, forecast(), budget)) / budget - 1)
        assert met <= max(0.05, best)


def test_a_speedup_that_chunk_reuse_reaches_computes_everything(tmp_path: Path) -> None:
    calibration().save(tmp_path / "calibration.json")
    planner = ForecastPlanner(ForecastConfig(target_speedup=2), tmp_path / "config.yaml")
    assert all(planner.plan(window(), MODEL, SHARES).planned)


@pytest.mark.parametrize(
    ("order", "guidance", "expected"),
    [(None, None, 2), (None, 4.0, 2), (None, 5.0, 2), (None, 6.0, 1), (2, 6.0, 2), (1, 4.0, 1)],
)
def test_strong_guidance_forecasts_from_one_velocity(
    tmp_path: Path, order: int | None, guidance: float | None, expected: int
) -> None:
    model = replace(MODEL, guidance=guidance)
    replace(calibration(), model=model).save(tmp_path / "calibration.json")
    planner = ForecastConfig(target_speedup=4, order=order).planner(tmp_path / "config.yaml")
    planner.check_model(model)
    assert planner.plan(window(), model, SHARES).history == expected
