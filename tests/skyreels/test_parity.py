"""Golden data of the published code; it is not part of the repository."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from motioncache_eval.parity import EXACT, FileReport
from motioncache_skyreels.parity.__main__ import CHECKS, INPUTS, check_folder, main
from motioncache_skyreels.parity.golden import DISTANCES, LATENTS

FIXTURES = Path(os.environ.get("MOTIONCACHE_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")) / "skyreels"

needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="no golden data: set MOTIONCACHE_FIXTURES to the folder that holds skyreels/"
)


@needs_fixtures
def test_all_golden_files_agree() -> None:
    reports = list(check_folder(FIXTURES))
    assert {report.name for report in reports} >= {"forward", "e2e_paper_reference", "e2e_paper_corrected"}
    assert [str(report) for report in reports if not report.passed] == []


@needs_fixtures
def test_a_changed_golden_value_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(FIXTURES / "unit_distance.safetensors")
    tensors["uniform_mid.token"][0] *= 1.001
    save_file(tensors, tmp_path / "unit_distance.safetensors")
    shutil.copy(FIXTURES / "unit_distance.json", tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "FAIL uniform_mid.token" in capsys.readouterr().out


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no golden files" in capsys.readouterr().err


def test_a_file_that_no_check_knows_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "mystery.safetensors")
    assert main([str(tmp_path)]) == 2
    assert "mystery.safetensors is none of the golden files" in capsys.readouterr().err


def test_a_damaged_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unit_distance.safetensors").write_bytes(b"no tensors")
    (tmp_path / "unit_distance.json").write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err or "lacks" in capsys.readouterr().err


def test_tolerances_are_kept() -> None:
    report = FileReport("x")
    one = torch.ones(3, dtype=torch.float64)
    report.compare("latents", one + 2.1e-5, one, LATENTS)
    report.compare("distances", one * (1 + 9e-6), one, DISTANCES)
    report.compare("shape", one[:2], one, EXACT)
    report.compare("nan", one * torch.nan, one, LATENTS)
    assert [c.passed for c in report.comparisons] == [False, True, False, False]
    assert not FileReport("nothing compared").passed


def test_every_check_has_a_name_of_its_own() -> None:
    assert not any(name.startswith(INPUTS) for name in CHECKS)
