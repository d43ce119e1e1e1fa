"""Scoring with the real package `vbench`, where VBENCH_PYTHON names a Python that has it (scripts/vbench_env.sh)."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval.cli import main
from motioncache_eval.jobs import find_model
from motioncache_eval.vbench import evaluate
from motioncache_eval.vbench.package import packaged_full_info
from motioncache_eval.vbench.plan import make_plan
from motioncache_eval.vbench.prompts import SUITE_OF_DIMENSION

from .test_vbench import SMALL

PYTHON = os.environ.get("VBENCH_PYTHON", "")
pytestmark = pytest.mark.skipif(not Path(PYTHON).is_file(), reason="VBENCH_PYTHON names no Python with vbench")

BEGIN = f"""
import json, sys
sys.path.insert(0, {str(Path(evaluate.__file__).parent)!r})
import evaluate
del sys.path[0]
evaluate.import_torchvision()
"""
FLICKERING = (
    "from vbench.temporal_flickering import temporal_flickering as score; print(json.dumps(score(sys.argv[1:])))"
)
RANDOM_AMT = """
import torch, vbench
from pathlib import Path
from omegaconf import OmegaConf
from vbench.third_party.amt.utils.build_utils import build_from_cfg
torch.manual_seed(0)
config = OmegaConf.load(Path(vbench.__file__).parent / "third_party/amt/cfgs/AMT-S.yaml")
torch.save({"state_dict": build_from_cfg(config.network).state_dict()}, sys.argv[1])
"""
LOOK = """
from vbench import VBench
for dimension, folder in json.loads(sys.argv[2]).items():
    vbench = VBench("cpu", sys.argv[1], sys.argv[3])
    path = vbench.build_full_info_json(folder, dimension, [dimension])
    print(json.dumps({dimension: sum(len(entry["video_list"]) for entry in json.load(open(path)))}))
"""


def run(code: str, *arguments: object) -> str:
    """What a program prints in VBench's environment."""
    command = [PYTHON, "-c", BEGIN + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sample_and_score(model: str, dimension: str, folder: Path, *size: str) -> dict[str, Any]:
    """Two videos of each of two presets, scored by our command."""
    (folder / "own.txt").write_text("a red circle resting\na blue square moving up\n")
    texts = [*SMALL[model], *size, "presets=[vanilla,slow]", f"short_prompts={folder / 'own.txt'}", "score=true"]
    arguments = [*texts, f"dimensions=[{dimension}]", f"output={folder / 'out'}", "devices=[cpu]"]
    assert main(["vbench", model, *arguments]) == 0
    return json.loads((folder / "out" / "scores.json").read_text())


@pytest.mark.parametrize("model", SMALL)
def test_temporal_flickering_is_what_a_direct_call_of_the_package_gives(model: str, tmp_path: Path) -> None:
    figures = sample_and_score(model, "temporal_flickering", tmp_path)
    for preset in ("vanilla", "slow"):
        videos = sorted((tmp_path / "out" / preset / "videos" / "temporal_flickering").iterdir())
        value, of_videos = json.loads(run(FLICKERING, *videos).splitlines()[-1])
        assert len(of_videos) == 2
        assert figures[preset]["dimensions"]["temporal_flickering"] == pytest.approx(value, rel=1e-12)
        assert 0.5 < value < 1
    assert figures["slow"]["differences"]["temporal_flickering"]["prompts"] == 2


def test_a_second_dimension_runs_with_random_weights_which_proves_the_plumbing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """motion_smoothness interpolates with AMT-S, whose weights are drawn at random here: the score means nothing."""
    (tmp_path / "cache" / "amt_model").mkdir(parents=True)
    run(RANDOM_AMT, tmp_path / "cache" / "amt_model" / "amt-s.pth")
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "cache"))
    figures = sample_and_score("magi-1", "motion_smoothness", tmp_path, "height=128", "width=128")
    assert 0 < figures["vanilla"]["dimensions"]["motion_smoothness"] < 1


@pytest.mark.parametrize(("setting", "items", "looked_for"), [("standard", 6230, 5), ("paper", 946, 1)])
@pytest.mark.parametrize("model", SMALL)
def test_every_name_that_vbench_looks_for_is_planned_within_seconds(
    model: str, setting: str, items: int, looked_for: int, tmp_path: Path
) -> None:
    found = find_model(model)
    started = time.process_time()
    plan = make_plan(found, found.adapter().presets(), [f"setting={setting}", "dry_run=true", "presets=[vanilla]"])
    assert time.process_time() - started < 10
    assert len(plan.videos) == items
    for video in plan.videos:
        path = tmp_path / video.suite / video.name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folders = {dimension: str(tmp_path / suite) for dimension, suite in SUITE_OF_DIMENSION.items()}
    said = run(LOOK, packaged_full_info(), json.dumps(folders), tmp_path / "looked")
    counts: dict[str, int] = {}
    for line in said.splitlines():
        counts |= json.loads(line) if line.startswith("{") else {}
    if looked_for == 5:
        assert "WARNING" not in said
    for dimension, suite in SUITE_OF_DIMENSION.items():
        prompts = len({video.short for video in plan.videos if video.suite == suite})
        assert counts[dimension] == looked_for * prompts
