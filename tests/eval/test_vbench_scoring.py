"""Scoring runs VBench in a process per dimension; a package of its name stands in for it here."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval.jobs import find_model
from motioncache_eval.vbench.manifest import Entry, add_entry
from motioncache_eval.vbench.package import find_python
from motioncache_eval.vbench.plan import Plan, make_plan
from motioncache_eval.vbench.prompts import list_videos
from motioncache_eval.vbench.scoring import read_results, score_videos

TORCH = """
device = str
class library:
    defined = []
    define = staticmethod(lambda name, schema: library.defined.append(name))
"""
TORCHVISION = """
import torch
if "torchvision::nms" not in torch.library.defined:
    raise RuntimeError("operator torchvision::nms does not exist")
"""
VBENCH = """
import json, os, torchvision
from pathlib import Path
class VBench:
    def __init__(self, device, full_info, output):
        self.output = Path(output)
        assert json.loads(Path(full_info).read_text()) and str(device) == "cpu"
    def evaluate(self, videos_path, name, dimension_list, local):
        assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
        with (Path(__file__).parent / "calls").open("a") as calls:
            calls.write(name + chr(10))
        if name == "dynamic_degree":
            raise OSError("the weights cannot be fetched")
        videos = sorted(Path(videos_path).iterdir())
        results = [{"video_path": str(path), "video_results": path.stat().st_size / 100} for path in videos]
        value = sum(one["video_results"] for one in results) / len(results)
        (self.output / f"{name}_eval_results.json").write_text(json.dumps({name: [value, results]}))
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two presets with two videos each, of 50 and 70 bytes, and of 40 and 60."""
    (tmp_path / "package").mkdir()
    for name, source in (("vbench", VBENCH), ("torch", TORCH), ("torchvision", TORCHVISION)):
        (tmp_path / "package" / f"{name}.py").write_text(source)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "package"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("VBENCH_PYTHON", str(python))
    info = tmp_path / "info.json"
    info.write_text(json.dumps([{"prompt_en": name, "dimension": ["subject_consistency"]} for name in "ab"]))
    model = find_model("skyreels-v2")
    texts = [f"full_info={info}", f"output={tmp_path / 'out'}", "presets=[vanilla,exact]", "devices=[cpu]"]
    dimensions = "dimensions=[subject_consistency,dynamic_degree,motion_smoothness]"
    plan = make_plan(model, model.adapter().presets(), [*texts, dimensions])
    for preset, less in (("vanilla", 0), ("exact", 10)):
        folder = plan.folder(preset)
        folder.prepare({"model": "none"}, plan.videos)
        for video, size in zip(plan.videos, (50, 70), strict=True):
            folder.path(video).write_bytes(bytes(size - less))
            add_entry(folder.manifest, Entry(video=video.key, size=size, sha256=str(size - less), seconds=1, seed=0))
    return plan


def calls(folder: Path) -> list[str]:
    return (folder / "package" / "calls").read_text().split()


def test_dimensions_are_scored_and_one_that_cannot_be_is_named(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score_videos(plan) == 1
    said = capsys.readouterr()
    assert "| dynamic_degree | not measured | not measured | - |" in said.out
    assert "- Not measured: dynamic_degree of vanilla. OSError: the weights cannot be fetched (" in said.out
    assert "| subject_consistency | 60.00 | 50.00 | -10.00 [-10.00, -10.00] |" in said.out
    assert "| motion_smoothness | 60.00 |" in said.out
    assert "| **total** | - | - | - |" in said.out
    assert "No total for vanilla, exact: 14 of 16 dimensions have no score: " in said.out
    first, second = said.err.splitlines()
    assert first.startswith("error: vanilla has no score in dynamic_degree: OSError: the weights cannot be fetched (")
    assert second.startswith("error: exact has no score in dynamic_degree: ")
    table = (tmp_path / "out" / "scores.md").read_text()
    assert f"{table}the table and the videos side by side: {tmp_path / 'out' / 'report.html'}\n" in said.out
    figures = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert figures["vanilla"]["dimensions"] == {"subject_consistency": 0.6, "motion_smoothness": 0.6}
    assert figures["exact"]["total"] is None
    found = figures["exact"]["differences"]["subject_consistency"]
    assert found["difference"] == pytest.approx(-0.1)
    assert found["interval"] == pytest.approx([-0.1, -0.1])
    assert found["prompts"] == 2
    assert "cannot be fetched" in figures["exact"]["not_measured"]["dynamic_degree"]


def test_a_score_is_taken_again_only_if_its_videos_changed(plan: Plan, tmp_path: Path) -> None:
    score_videos(plan)
    before = calls(tmp_path)
    score_videos(plan)
    assert calls(tmp_path)[len(before) :] == ["dynamic_degree"] * 2
    video = plan.videos[0]
    add_entry(plan.folder("exact").manifest, Entry(video=video.key, size=1, sha256="other", seconds=1, seed=0))
    score_videos(plan)
    assert calls(tmp_path)[len(before) + 2 :] == [
        "dynamic_degree", "subject_consistency", "dynamic_degree", "motion_smoothness",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["", "{}", '{"color": 1}', '{"color": [NaN, []]}', '{"color": [1, [{}]]}'])
def test_results_that_hold_no_score_are_told(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    assert str(path) in str(read_results(path, "color"))


def test_without_vbenchs_environment_the_error_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from motioncache.errors import MotionCacheError

    monkeypatch.setenv("VBENCH_PYTHON", "/nowhere/python")
    with pytest.raises(MotionCacheError, match=r"run bash scripts/vbench_env\.sh"):
        find_python()


def test_without_vbenchs_environment_the_table_names_what_was_not_measured(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VBENCH_PYTHON", "/nowhere/python")
    assert score_videos(plan) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for dimension in ("subject_consistency", "dynamic_degree", "motion_smoothness"):
        assert f"| {dimension} | not measured | not measured | - |" in said.out
    (line,) = (line for line in said.out.splitlines() if line.startswith("- Not measured: "))
    assert "run bash scripts/vbench_env.sh" in line
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["vanilla"]["dimensions"] == {}
    assert "not measured" in (tmp_path / "out" / "report.html").read_text()


def test_prompts_of_ones_own_are_scored_but_where_vbench_looks_for_what_its_list_says(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for suite in ("subject_consistency", "scene"):
        (own / f"{suite}.txt").write_text("a\nb\n")
    dimensions = ("subject_consistency", "scene", "background_consistency")
    settings = replace(plan.settings, full_info=None, short_prompts=str(own), dimensions=dimensions)
    videos = list_videos(["subject_consistency", "scene"], samples=1, full_info=None, short=own, long=None)
    ours = replace(plan, settings=settings, videos=videos)
    for preset in ours.policies:
        folder = ours.folder(preset)
        folder.prepare({"model": "none"}, videos)
        for video in videos[2:]:
            folder.path(video).write_bytes(bytes(30))
            add_entry(folder.manifest, Entry(video=video.key, size=30, sha256="30", seconds=1, seed=0))
    assert score_videos(ours) == 1
    said = capsys.readouterr().out
    assert "| subject_consistency | 60.00 | 50.00 |" in said
    assert "| background_consistency | 30.00 | 30.00 | +0.00 [+0.00, +0.00] |" in said
    assert "| scene | not measured | not measured | - |" in said
    assert "- Not measured: scene of vanilla, scene of exact. scene is scored on VBench's own prompts alone." in said
    info = json.loads((tmp_path / "out" / "full_info.json").read_text())
    assert info[2] == {"prompt_en": "a", "dimension": ["background_consistency", "scene"]}
