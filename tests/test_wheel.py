"""What `pip install motioncache` installs: the library and its presets, and no need of more than it asks for."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
MODELS = ("skyreels", "magi", "helios")
CALIBRATED = MODELS[:2]  # the others are measured in their first videos


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(ROOT))
    return Path(next(builder.build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])))


def test_the_wheel_holds_the_library_with_its_presets_and_neither_training_nor_golden_checks(wheel: Path) -> None:
    files = [Path(name) for name in ZipFile(wheel).namelist()]
    packages = {path.parts[0] for path in files if not path.parts[0].endswith(".dist-info")}
    assert packages == {
        "motioncache",
        "motioncache_eval",
        "motioncache_diffusers",
        *(f"motioncache_{model}" for model in MODELS),
    }
    folders = {path: set(path.with_suffix("").parts) for path in files if path.parts[1] != "cli"}
    assert not [path for path, names in folders.items() if {"train", "parity"} & names]
    for model in MODELS:
        assert Path(f"motioncache_{model}/addconfig/config.yaml") in files
        assert (Path(f"motioncache_{model}/addconfig/calibration.json") in files) == (model in CALIBRATED)


def test_everything_else_of_the_repository_is_in_the_wheel(wheel: Path) -> None:
    files = set(ZipFile(wheel).namelist())
    roots = [ROOT / "common", *sorted(ROOT.glob("MotionCache4*"))]
    modules = {path.relative_to(root).as_posix() for root in roots for path in root.glob("motioncache*/**/*.py")}
    kept = {name for name in modules if "train" not in name and ("parity" not in name or "/cli/" in name)}
    assert len(kept) > 100
    assert kept <= files


def test_the_base_dependencies_are_those_of_the_cache_and_all_is_the_other_extras(wheel: Path) -> None:
    archive = ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("METADATA"))
    required = [line.split(": ")[1] for line in archive.read(name).decode().splitlines() if "Requires-Dist: " in line]
    base = {_name(line) for line in required if "extra ==" not in line}
    extras = {
        extra: {_name(line) for line in required if f"extra == '{extra}'" in line} for extra in ("video", "magi", "all")
    }
    assert base == {
        "torch", "diffusers", "transformers", "accelerate", "safetensors", "omegaconf", "ftfy", "tqdm", "numpy",
        "pillow",
    }  # fmt: skip
    assert extras["video"] == {"av", "matplotlib"}
    assert extras["magi"] == extras["video"] | {"beautifulsoup4", "sentencepiece", "protobuf"}
    assert extras["all"] == extras["magi"]


def _name(requirement: str) -> str:
    from packaging.requirements import Requirement

    return Requirement(requirement).name


@pytest.mark.slow
def test_the_cache_works_without_the_extras_and_what_needs_one_says_so(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path)
    model = ROOT / "MotionCache4SkyReels-V2" / "motioncache-tiny"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "base_install.py"), str(model), "--hide"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(tmp_path)
