"""The benchmark where something is wrong: videos that show nothing, damaged files, settings that the model refuses."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from motioncache.errors import ConfigError
from motioncache_eval.bench import __main__ as bench_main
from motioncache_eval.bench.__main__ import main
from motioncache_eval.bench.benchmark import Benchmark
from motioncache_eval.bench.model import BenchModel, own_demo

from .bench_files import cells, write

TEACACHE = {"policy": "teacache", "warmup": 1, "threshold": 0.1, "output": "velocity"}
STEPS = {"preset": "exact", "tune": {"knob": "job.num_inference_steps", "low": 4, "high": 12, "multiple": 4}}


@pytest.fixture
def config(distilled: Path, tmp_path: Path) -> Path:
    """Two methods on two prompts, with the model's own demo."""
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    values = {
        "model": "magi-1",
        "prompts": "prompts.txt",
        "output": "results",
        "settings": {"model": str(distilled), "variant": None, "num_frames": 24},
        "methods": {"vanilla": {}, "tea": {"policy": TEACACHE}},
    }
    return write(tmp_path, values)


def change(config: Path, **values: Any) -> None:
    write(config.parent, yaml.safe_load(config.read_text()) | values)


def broken_decode(monkeypatch: pytest.MonkeyPatch, break_video: Any) -> None:
    """Let the decoder return what `break_video` makes of the n-th video, counted from 0."""
    load, count = bench_main._load, iter(range(100))

    def load_broken(benchmark: Benchmark) -> BenchModel:
        bench = load(benchmark)
        return replace(bench, decode=lambda *given: break_video(bench.decode(*given), next(count)))

    monkeypatch.setattr(bench_main, "_load", load_broken)


def test_a_method_whose_video_is_black_or_nan_says_so(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_video(video: torch.Tensor, number: int) -> torch.Tensor:
        return {1: torch.zeros_like(video), 3: torch.full_like(video, torch.nan)}.get(number, video)

    broken_decode(monkeypatch, break_video)
    assert main([str(config)]) == 1
    found = cells(config)
    assert found["tea/000"]["error"] == "the video is black in all of its 24 frames: nothing can be measured on it"
    assert found["tea/001"]["error"].startswith("24 of the video's 24 frames hold values that are NaN or infinite")
    assert found["vanilla/001"]["psnr_db"] == 120
    told = capsys.readouterr()
    assert "tea 000: the video is black" in told.out
    assert "`tea`, prompt 001: 24 of the video's 24 frames" in told.out
    assert told.err == ""  # no bar, as it is no terminal
    monkeypatch.undo()
    assert main([str(config)]) == 0  # what failed is measured again, and nothing else
    assert cells(config)["vanilla/001"] == found["vanilla/001"]


def test_where_the_uncached_video_shows_nothing_nothing_is_compared_with_it(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken_decode(monkeypatch, lambda video, number: torch.zeros_like(video) if number == 0 else video)
    assert main([str(config)]) == 1
    found = cells(config)
    assert set(found) == {"vanilla/000", "vanilla/001", "tea/001"}  # no 120 dB of two black videos
    assert "the video is black" in found["vanilla/000"]["error"]
    assert "`vanilla`, prompt 000: the video is black" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"num_frames": "many"}, "methods.x.job.num_frames: 'many' has the wrong type; allowed: a whole number"),
        ({"num_frames": True}, "methods.x.job.num_frames: True has the wrong type"),
        ({"num_frames": [24]}, "methods.x.job.num_frames: [24] has the wrong type"),
        ({"prompt": "another"}, "methods.x.job: unknown key 'prompt'"),
        ({"seed": 5}, "methods.x.job: unknown key 'seed'"),
        ({"dtype": "float8"}, "methods.x.job, prompt 0: dtype: 'float8' is not allowed"),
    ],
)
def test_a_method_with_a_wrong_job_is_one_line(
    config: Path, job: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(config, methods={"vanilla": {}, "x": {"preset": "exact", "job": job}})
    for arguments in ((), ("--check",)):
        assert main([str(config), *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert not (config.parent / "results").exists()


def test_a_check_measures_nothing_and_needs_no_tuning(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "tuning.txt").write_text("a green circle\n")
    methods = {"vanilla": {}, "exact": {"preset": "exact"}, "fewer steps": STEPS}
    tuning = {"budgets": [0.6], "tuned": "tuned", "tuning_prompts": "tuning.txt"}
    change(config, methods=methods, **tuning)
    assert main([str(config), "--check"]) == 0
    assert capsys.readouterr().out == "magi-1: 3 methods, 2 prompts: all settings are known\n"
    assert not (config.parent / "results").exists()
    assert not (config.parent / "tuned").exists()
    assert main([str(config), "--check", "methods.fewer steps.tune.knob=job.steps"]) == 2
    assert (
        "methods.fewer steps.job: unknown key 'steps'; known keys: allow_foreign_calibration, chunks_at_once, config, "
        in capsys.readouterr().err
    )
    assert main([str(config), "--check", "tuning_prompts=none.txt"]) == 2
    assert "none.txt' cannot be read" in capsys.readouterr().err


def test_damaged_results_are_measured_again(config: Path) -> None:
    assert main([str(config), "count=1"]) == 0
    results = config.parent / "results"
    whole = cells(config)["tea/000"]
    (results / "cells" / "tea" / "000.json").write_text(json.dumps(whole | {"psnr_db": float("nan")}))
    assert main([str(config), "count=1", "--report"]) == 1  # its cell is an error
    assert main([str(config), "count=1"]) == 0
    assert cells(config)["tea/000"]["psnr_db"] == whole["psnr_db"]


def test_what_to_delete_is_said_precisely(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "count=1"]) == 0
    results = config.parent / "results"
    assert main([str(config), "count=1", "methods.tea.policy.threshold=0.2"]) == 2
    assert f"delete {results}/cells/tea to measure 'tea' again, or pass output=..." in capsys.readouterr().err
    assert main([str(config), "count=1", "settings.num_frames=48"]) == 2
    assert f"delete {results}/cells and {results}/noise to measure all methods" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"fingerprint": "a"}', '{"fingerprint": "a", "points": [{"value": 1}]}']
)
def test_a_damaged_result_of_tuning_is_one_line(config: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "tuning.txt").write_text("a green circle\n")
    (config.parent / "tuned").mkdir()
    (config.parent / "tuned" / "exact.json").write_text(content)
    methods = {"vanilla": {}, "exact": {"preset": "exact"}, "fewer steps": STEPS}
    change(config, methods=methods, budgets=[0.6], tuned="tuned", tuning_prompts="tuning.txt")
    for arguments in ((), ("--tune",)):
        assert main([str(config), *arguments]) == 2
        error = capsys.readouterr().err
        assert "exact.json is damaged: " in error
        assert error.endswith("; delete it to tune again\n")


def test_the_time_left_is_shown_on_a_terminal(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main([str(config), "count=1", "--quiet"]) == 0
    told = capsys.readouterr()
    assert "of 2 videos, " in told.err
    assert " left" in told.err
    assert told.out.splitlines()[0] == "vanilla 000: 120.0 dB"
    assert len(told.out.splitlines()) == 2


def test_without_the_repository_there_is_no_demo(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in the repository only: pass the YAML file of a demo, job=FILE"):
        own_demo(tmp_path / "job.yaml")
    (tmp_path / "job.yaml").touch()
    assert own_demo(tmp_path / "job.yaml") == tmp_path / "job.yaml"
