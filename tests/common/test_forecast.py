"""Forecasts of velocities by numbers that can be checked, and the file that they come from."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motioncache.errors import ConfigError
from motioncache.forecast.calibration import Calibration, ModelIdentity, sample_weights
from motioncache.forecast.prediction import Forecast, velocity_products

SIGMAS = (1.0, 0.75, 0.5, 0.25)
STRAIGHT = np.array([[1.0, 2.0], [0.75, 2.5], [0.5, 3.0], [0.25, 3.5]])
"""Velocities of two values that change by the same amount from sigma to sigma."""

SENSITIVITY = np.array([8.0, 4.0, 2.0, 1.0])


MODEL = ModelIdentity(2, 8, weights=(0.5, -0.25, 0.125), guidance=4.5)


def calibration(velocities: np.ndarray = STRAIGHT) -> Calibration:
    return Calibration(MODEL, SIGMAS, products=velocity_products(velocities), sensitivity=SENSITIVITY)


def test_a_straight_line_is_forecast_from_two_velocities() -> None:
    forecast = calibration().at(SIGMAS, 2)
    assert forecast.coefficients(2, (1, 0)) == pytest.approx((2.0, -1.0), abs=1e-3)
    assert forecast.coefficients(3, (1, 0)) == pytest.approx((3.0, -2.0), abs=1e-3)
    assert forecast.errors((1, 0))[2:] == pytest.approx([0.0, 0.0], abs=1e-4)


def test_order_1_scales_the_last_velocity() -> None:
    forecast = calibration().at(SIGMAS, 1)
    best = float(STRAIGHT[1] @ STRAIGHT[2] / (STRAIGHT[1] @ STRAIGHT[1]))
    assert forecast.coefficients(2, (1, 0)) == pytest.approx((best,), rel=1e-4)
    left = STRAIGHT[2] - best * STRAIGHT[1]
    # The step is 0.25 long, and what it brings in doubles.
    assert forecast.errors((1, 0))[2] == pytest.approx(float(left @ left) / 2 * 0.25**2 * 2.0, rel=1e-3)


def test_errors_of_forecasts_from_the_same_velocities_add_up_as_vectors() -> None:
    """The last velocity is kept for two steps, which are off by `one` and by `two`."""
    forecast = Forecast(SIGMAS, STRAIGHT @ STRAIGHT.T / 2, SENSITIVITY, 1)
    known = STRAIGHT[1]
    one, two = (STRAIGHT[s] - forecast.coefficients(s, (1,))[0] * known for s in (2, 3))
    moved = 0.25 * np.sqrt(2.0) * one, 0.25 * two
    expected = [0.0, 0.0, float(moved[0] @ moved[0]) / 2, float((moved[0] + moved[1]) @ (moved[0] + moved[1])) / 2]
    assert forecast.harm((1,)) == pytest.approx(expected)
    assert forecast.harm((1,))[3] > 1.5 * (forecast.errors((1,))[2:]).sum()


def test_velocities_between_two_measured_sigmas_are_mixed_from_both() -> None:
    sigmas = (1.0, 0.625, 0.3)
    mixed = np.stack([np.interp(sigmas, SIGMAS[::-1], STRAIGHT[::-1, i]) for i in range(2)], axis=1)
    assert calibration().at(sigmas, 2).products == pytest.approx(mixed @ mixed.T / 2)
    assert calibration().at(SIGMAS, 2).products == pytest.approx(calibration().products)


def test_the_sensitivity_is_that_of_the_sigma_where_a_step_ends() -> None:
    """In between it is a geometric mean: those of the calibration end at 0.75, 0.5, 0.25, and 0."""
    sensitivity = calibration().at((1.0, 0.625, 0.3), 2).sensitivity
    assert sensitivity == pytest.approx([2.0**2.5, 2.0**1.2, 1.0])
    assert calibration().at(SIGMAS, 2).sensitivity == pytest.approx(SENSITIVITY)


def test_sigmas_outside_the_measured_ones_take_the_nearest() -> None:
    products = calibration().at((1.0, 0.1), 2).products
    assert products[1, 1] == pytest.approx(calibration().products[3, 3])


def test_products_are_means_over_values() -> None:
    assert velocity_products(np.array([[1.0, 3.0], [2.0, 0.0]])).tolist() == [[5.0, 1.0], [1.0, 2.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_is_known_by_its_weights_in_any_precision(dtype: torch.dtype) -> None:
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    known = ModelIdentity(2, 8, sample_weights(weight))
    assert known.differs(ModelIdentity(2, 8, sample_weights(weight.to(dtype)))) is None
    assert known.differs(ModelIdentity(2, 8, sample_weights((1.02 * weight).to(dtype)))) == "on other weights"
    assert known.differs(ModelIdentity(3, 8, sample_weights(weight))) == "on depth 2 and width 8, not 3 and 8"


def test_another_guidance_is_told() -> None:
    assert MODEL.differs(replace(MODEL, guidance=6.0)) is None


def test_weights_that_are_not_in_memory_are_not_compared() -> None:
    offloaded = ModelIdentity(2, 8, sample_weights(torch.empty(4, 8, device="meta")))
    assert offloaded.weights == sample_weights(torch.ones(4, 8).to(torch.float8_e4m3fn)) == ()
    offloaded = replace(offloaded, guidance=MODEL.guidance)
    assert MODEL.differs(offloaded) is None
    assert offloaded.differs(MODEL) == "on weights that it does not name"


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    calibration().save(path)
    read = Calibration.load(path)
    assert (read.model, read.sigmas) == (MODEL, SIGMAS)
    assert read.products == pytest.approx(calibration().products, rel=1e-6)
    assert read.sensitivity == pytest.approx(SENSITIVITY)


def broken(**changes: Any) -> str:
    """The text of a file that is right but for some keys."""
    right = {
        "layers": 1,
        "width": 2,
        "guidance": None,
        "weights": [0.1],
        "sigmas": [1.0, 0.5],
        "products": [[1.0, 0.5], [0.5, 1.0]],
    }
    return json.dumps(right | {"sensitivity": [2.0, 1.0]} | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a calibration"),
        ('{"layers": 1, "width": 2, "sigmas": [1.0, 0.5]}', "is not a calibration: KeyError"),
        (broken(products=[[1.0]]), "is damaged: a calibration of n sigmas needs n x n"),
        (broken(sigmas=[0.5, 1.0]), "is damaged: a calibration needs falling"),
        (
            broken(products=[[1.0, float("nan")], [1.0, 1.0]]),
            "is damaged: a calibration of n sigmas needs n x n finite",
        ),
        (broken(sensitivity=[1.0]), "is damaged: a calibration needs a positive sensitivity"),
        (broken(sensitivity=[1.0, 0.0]), "is damaged: a calibration needs a positive sensitivity"),
        (broken(sensitivity=[1.0, float("inf")]), "is damaged: a calibration needs a positive sensitivity"),
        (broken(sensitivity=["1", 1.0]), "is damaged: sensitivity: .* has the wrong type"),
        (
            broken(products=[[0.0, 0.0], [0.0, 0.0]]),
            "is damaged: .* positive products on the diagonal",
        ),
        (broken(products=[[-1.0, 0.0], [0.0, 1.0]]), "is damaged: .* positive products on the diagonal"),
        (broken(products=[[1.0, 0.5], [0.4, 1.0]]), "is damaged: .* symmetric and positive semidefinite"),
        (broken(products=[[1.0, 1.5], [1.5, 1.0]]), "is damaged: .* symmetric and positive semidefinite"),
        (broken(products=[[1e-37, 1e300], [1e300, 1e-37]]), "is damaged: .* symmetric and positive semidefinite"),
        (broken(products={"a": 1}), "is damaged: products: {'a': 1} has the wrong type"),
        (broken(sigmas=[1.5, 0.5]), "is damaged: a calibration needs sigmas above 0 that do not exceed 1"),
        (broken(sigmas=[1.0, 0.0]), "is damaged: a calibration needs sigmas above 0 that do not exceed 1"),
        (broken(sigmas=[1.0, float("nan")]), "is damaged: sigmas: .* is out of range; allowed: finite numbers"),
        (broken(layers=-1), "is damaged: layers: -1 is out of range; allowed: 1 or more"),
        (broken(layers=1.5), "is damaged: layers: 1.5 has the wrong type; allowed: a whole number"),
        (broken(width=True), "is damaged: width: True has the wrong type; allowed: a whole number"),
        (broken(guidance=float("inf")), "is damaged: guidance: inf is out of range; allowed: finite numbers"),
        (broken(guidance=-4.0), "is damaged: guidance: -4.0 is out of range; allowed: null, or 1 or more"),
        (broken(weights=[0.1, float("nan")]), "is damaged: weights: .* is out of range; allowed: finite numbers"),
        (broken(weights={}), "is damaged: weights: {} has the wrong type"),
        (broken(sigmas=[10**400, 1.0]), "is (damaged|not a calibration): "),
        ("[" * 100_000, "is not a calibration: RecursionError"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Calibration.load(path)


def test_products_may_be_off_by_the_rounding_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    half_a_unit = 5e-7  # of the last of 7 digits: the lowest eigenvalue of [[1, 1 + h], [1 + h, 1]] is -h
    path.write_text(broken(products=[[1.0, 1 + half_a_unit], [1.0, 1.0]], weights=[]))
    assert Calibration.load(path).model.weights == ()
    path.write_text(broken(products=[[1.0, 1 + 4 * half_a_unit], [1 + 4 * half_a_unit, 1.0]]))
    with pytest.raises(ConfigError, match="positive semidefinite"):
        Calibration.load(path)


def test_a_calibration_of_few_independent_velocities_survives_its_file(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    path, sigmas = tmp_path / "calibration.json", tuple(np.linspace(1.0, 0.1, 64).tolist())
    for rank in (1, 2, 5):
        products = velocity_products(draw.normal(size=(64, rank)) * 10 ** draw.uniform(-3, 3, size=(64, 1)))
        Calibration(MODEL, sigmas, products=products, sensitivity=np.ones(64)).save(path)
        assert Calibration.load(path).products == pytest.approx(products, rel=1e-6)


@pytest.mark.parametrize("folder", ["MotionCache4SkyReels-V2", "MotionCache4MAGI-1"])
def test_the_shipped_calibrations_load(folder: str) -> None:
    assert Calibration.load(Path(__file__).parents[2] / folder / "addconfig" / "calibration.json").model.weights


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no calibration .*motioncache calibrate"):
        Calibration.load(tmp_path / "none.json")


def test_the_last_step_ends_clean() -> None:
    forecast = Forecast((1.0, 0.25), np.eye(2), np.array([4.0, 1.0]), 1)
    assert forecast.weight.tolist() == [0.75**2 * 4.0, 0.25**2]
