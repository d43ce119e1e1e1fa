import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from motioncache.config import structured
from motioncache.distance import polynomial
from motioncache.errors import MotionCacheError
from motioncache.polynomials import Polynomial
from motioncache_eval.fit_polynomial import fit, yaml_row
from motioncache_skyreels.fit_polynomial import main

from .conftest import SMALL


def test_a_known_polynomial_is_found_again() -> None:
    known = (-3.0, 2.0, 0.5)
    change = np.linspace(0.01, 0.2, 12).tolist()
    result = fit(change, [polynomial(c, known) for c in change], degree=2, layers=6, width=128)
    assert result.coefficients == pytest.approx(known, rel=1e-6)
    assert result.r_squared == pytest.approx(1)
    assert result.fit_range == pytest.approx((0.01, 0.2))
    (row,) = yaml.safe_load("polynomials:\n" + yaml_row(result, "a test"))["polynomials"]
    assert structured(Polynomial, row, where="row").coefficients == pytest.approx(known, rel=1e-6)


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(MotionCacheError, match="4 steps are too few for a polynomial of degree 4"):
        fit([0.1] * 4, [0.1] * 4, degree=4, layers=1, width=1)


def test_the_command_fits_any_checkpoint(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "calibration.json"
    assert main([str(model_folder), *SMALL, "--degree", "2", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert (result["layers"], result["width"], len(result["change"])) == (2, 48, 5)
    assert all(value > 0 for value in result["change"] + result["residual_change"])
    assert "layers: 2" in capsys.readouterr().out


def test_bad_input_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["./none"]) == 2
    assert "there is no model folder ./none" in capsys.readouterr().err
    assert main(["./none", "--prompts", str(tmp_path / "no.txt")]) == 2
    assert "cannot be read" in capsys.readouterr().err
