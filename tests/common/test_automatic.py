"""Calibrations that a model's own videos give: what is measured, where it is kept, and when it is used."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from motioncache.decision import Call, Decision
from motioncache.errors import ConfigError
from motioncache.forecast.automatic import measured
from motioncache.forecast.budget import ForecastConfig, ForecastPlanner
from motioncache.forecast.calibration import ModelIdentity
from motioncache.forecast.policy import ForecastCache
from motioncache.forecast.profile import WindowProfile
from motioncache.record import Phase

from ..calibration import write_calibration

SIGMAS = (1.0, 0.75, 0.5, 0.25)
MODEL = ModelIdentity(2, 8, weights=(0.5, -0.25), guidance=3.0)
SHARES = {"cond": 3.0, "uncond": -2.0}
PROFILE = WindowProfile(
    iterations=5, starts=(0, 1), iteration_flops=(10,) * 5, fixed_flops=0, sigmas=SIGMAS, uncached_flops=50
)
AUTO = ForecastConfig(target_speedup=1.5, calibration="auto")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOTIONCACHE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept" / "calibrations"


def planner(config: ForecastConfig = AUTO, model: ModelIdentity = MODEL) -> ForecastPlanner:
    made = ForecastPlanner(config, Path("none.yaml"))
    made.check_model(model)
    return made


def velocity(branch: str, chunk: int, step: int) -> torch.Tensor:
    seed = 100 * chunk + 10 * step + (branch == "cond")
    return torch.randn(1, 6, generator=torch.Generator().manual_seed(seed))


def sample(policy: ForecastCache, steps: int = len(SIGMAS)) -> None:
    """Show a policy the velocities of two chunks, step after step."""
    for step in range(steps):
        for chunk in (0, 1):
            for branch in SHARES:
                call = Call(branch=branch, chunk=chunk, step=step, iteration=step + chunk, tokens=6, attended=6)
                decision = Decision(call=call, phase=Phase.forecast, due=True)
                assert policy.observe(decision, velocity(branch, chunk, step), ()) is None


def guided_products() -> np.ndarray:
    chunks = []
    for chunk in (0, 1):
        guided = [3 * velocity("cond", chunk, s) - 2 * velocity("uncond", chunk, s) for s in range(len(SIGMAS))]
        stacked = torch.cat(guided).double().numpy()
        chunks.append(stacked @ stacked.T / 6)
    return np.mean(chunks, axis=0)


def test_the_first_window_is_computed_and_measured_and_the_next_one_planned(folder: Path) -> None:
    ours = planner()
    first = ours.plan(PROFILE, MODEL, SHARES)
    assert all(first.planned)
    assert "measured" in str(ours.used)
    sample(first)
    second = ours.plan(PROFILE, MODEL, SHARES)
    assert not all(second.planned)
    assert ours.calibration is not None
    assert ours.calibration.products == pytest.approx(guided_products(), rel=1e-5)
    assert ours.used == "what a window of this model said, of depth 2, width 8, guidance 3, 4 steps"
    assert len(list(folder.iterdir())) == 1  # nothing unfinished is left


def test_another_process_finds_what_was_measured() -> None:
    sample(planner().plan(PROFILE, MODEL, SHARES))
    assert not all(planner().plan(PROFILE, MODEL, SHARES).planned)


@pytest.mark.parametrize(
    ("profile", "model"),
    [
        (replace(PROFILE, sigmas=(1.0, 0.7, 0.5, 0.25)), MODEL),
        (PROFILE, replace(MODEL, guidance=4.0)),
        (PROFILE, replace(MODEL, weights=(0.5, 0.25))),
        (PROFILE, replace(MODEL, layers=3)),
    ],
)
def test_another_schedule_guidance_or_model_is_measured_by_itself(profile: WindowProfile, model: ModelIdentity) -> None:
    sample(planner().plan(PROFILE, MODEL, SHARES))
    assert all(planner(model=model).plan(profile, model, SHARES).planned)


def test_a_window_that_was_interrupted_is_measured_again() -> None:
    ours = planner()
    sample(ours.plan(PROFILE, MODEL, SHARES), steps=2)
    assert all(ours.plan(PROFILE, MODEL, SHARES).planned)


def test_a_model_whose_weights_are_not_in_memory_is_kept_for_this_pipeline_alone(folder: Path) -> None:
    unknown = replace(MODEL, weights=())
    ours = planner(model=unknown)
    sample(ours.plan(PROFILE, unknown, SHARES))
    assert not all(ours.plan(PROFILE, unknown, SHARES).planned)
    assert not folder.exists()


@pytest.mark.parametrize("config", [AUTO, ForecastConfig(target_speedup=1.5)], ids=["auto", "in place of the shipped"])
def test_what_cannot_be_identified_is_measured_once_for_a_transformer(
    config: ForecastConfig, tmp_path: Path, folder: Path
) -> None:
    """A cache that is enabled anew for each video makes a planner for each."""
    write_calibration(tmp_path, replace(MODEL, layers=3))
    unknown, mine, other = replace(MODEL, weights=()), torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def plan(transformer: torch.nn.Module, sigmas: tuple[float, ...] = SIGMAS) -> ForecastCache:
        made = ForecastPlanner(config, tmp_path / "config.yaml")
        made.check_model(unknown, transformer)
        return made.plan(replace(PROFILE, sigmas=sigmas), unknown, SHARES)

    sample(plan(mine))
    assert not all(plan(mine).planned)
    assert not all(plan(mine).planned)
    assert all(plan(other).planned)
    assert all(plan(mine, (1.0, 0.7, 0.5, 0.25)).planned)
    assert not folder.exists()


def test_a_damaged_file_is_measured_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sample(planner().plan(PROFILE, MODEL, SHARES))
    (kept,) = folder.iterdir()
    kept.write_text(kept.read_text()[:40])
    again = planner().plan(PROFILE, MODEL, SHARES)
    assert all(again.planned)
    assert "is measured again" in caplog.text
    sample(again)
    assert not all(planner().plan(PROFILE, MODEL, SHARES).planned)


def test_a_folder_that_cannot_be_written_costs_other_processes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOTIONCACHE_CACHE", str(tmp_path / "file"))
    ours = planner()
    with caplog.at_level(logging.WARNING):
        sample(ours.plan(PROFILE, MODEL, SHARES))
    assert "not kept for other processes" in caplog.text
    assert not all(ours.plan(PROFILE, MODEL, SHARES).planned)


def test_a_schedule_that_stands_still_is_refused_before_sampling() -> None:
    with pytest.raises(ConfigError, match="its sigmas do not fall"):
        planner().plan(replace(PROFILE, sigmas=(1.0, 0.5, 0.5, 0.25)), MODEL, SHARES)


def test_a_shipped_file_of_another_model_is_left_aside(tmp_path: Path) -> None:
    other = replace(MODEL, width=16)
    measured(PROFILE, other, guided_products(), {"only": 1.0}).save(tmp_path / "calibration.json")
    config = ForecastConfig(target_speedup=1.5)
    ours = ForecastPlanner(config, tmp_path / "config.yaml")
    ours.check_model(MODEL)
    assert all(ours.plan(PROFILE, MODEL, SHARES).planned)
    theirs = ForecastPlanner(config, tmp_path / "config.yaml")
    theirs.check_model(other)
    assert not all(theirs.plan(PROFILE, other, SHARES).planned)


def test_two_measurements_of_the_same_model_leave_one_whole_file(folder: Path) -> None:
    both = [planner().plan(PROFILE, MODEL, SHARES) for _ in range(2)]
    sample(both[0])
    before = next(folder.iterdir()).read_text()
    sample(both[1])
    assert [path.read_text() for path in folder.iterdir()] == [before]
