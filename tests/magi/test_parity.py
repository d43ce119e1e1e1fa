"""Golden data of the published code; it is not part of the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from motioncache_magi.parity.__main__ import main

FIXTURES = Path(os.environ.get("MOTIONCACHE_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures")) / "magi"

needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="no golden data: set MOTIONCACHE_FIXTURES to the folder that holds magi/"
)


@needs_fixtures
def test_all_golden_files_agree() -> None:
    """In a process of its own: see `motioncache_magi.parity` on MKL."""
    command = [sys.executable, "-m", "motioncache_magi.parity", str(FIXTURES)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said = run.stdout.splitlines()
    assert [line for line in said if "FAIL" in line] == []
    assert {f"ok   {name}" for name in ("schedules", "dit_tiny45_cases", "e2e_base_cfg3", "vae_cases")} <= set(said)
    assert run.returncode == 0, run.stderr


@needs_fixtures
def test_a_changed_golden_value_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(FIXTURES / "e2e_window1_cfg1.safetensors")
    tensors["latents"][0, 0, 0] += 1e-3 * tensors["latents"].std()
    save_file(tensors, tmp_path / "e2e_window1_cfg1.safetensors")
    for name in ("manifest.json", "dit_tiny45_weights.safetensors"):
        shutil.copy(FIXTURES / name, tmp_path)
    assert main([str(tmp_path)]) == 1
    assert "FAIL latents" in capsys.readouterr().out


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no golden files" in capsys.readouterr().err


def test_a_file_that_no_check_knows_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "mystery.safetensors")
    assert main([str(tmp_path)]) == 2
    assert "mystery.safetensors is none of the golden files" in capsys.readouterr().err


def test_a_file_without_a_manifest_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "e2e_any.safetensors")
    assert main([str(tmp_path)]) == 2
    assert "manifest.json cannot be read" in capsys.readouterr().err
