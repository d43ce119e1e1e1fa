"""What the demo compares, and what it keeps when it ends early."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from motioncache.errors import MotionCacheError
from motioncache_eval.cli import main
from motioncache_eval.jobs import preset_of
from motioncache_eval.video import read_video
from motioncache_skyreels.job.sample import _call

from .test_job import run

SHIPPED = ["model=skyreels-v2", "height=32", "width=32", "num_frames=37", "base_num_frames=37", "ar_step=2"]
"""Overrides that make a short job with the shipped model, which has a calibration."""


def test_forecast_is_compared_at_the_flops_of_the_chosen_preset(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "{policy: motioncache, warmup: 1, threshold: 0.3, temporal_vote: null, minimum_update_ratio: 0}\n"
    )
    arguments = [*SHIPPED, f"preset={preset}", f"output={tmp_path / 'out'}", "num_inference_steps=20"]
    assert main(["demo", *arguments]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    report = json.loads((folder / "run.json").read_text())
    flops = {name: result["flops"] for name, result in report["results"].items()}
    assert list(flops) == ["vanilla", "exact", "mine", "forecast"]
    assert flops["forecast"] == pytest.approx(flops["mine"], rel=0.05)
    assert flops["mine"] < 0.8 * flops["exact"]
    assert report["policies"]["forecast"]["target_speedup"] == pytest.approx(flops["vanilla"] / flops["mine"])
    assert report["calibration"].startswith("the shipped calibration, of depth 6, width 128")
    assert (folder / "forecast.mp4").is_file()


def test_a_model_without_a_calibration_is_measured_first_and_sampled_again(
    model_folder: Path, preset_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"model={model_folder}", f"preset={preset_file}", f"output={tmp_path}", "num_inference_steps=20"]
    assert run(*arguments) == 0
    assert "forecast measured this model in that video, and is sampled again" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    report = json.loads((folder / "run.json").read_text())
    flops = {name: result["flops"] for name, result in report["results"].items()}
    assert flops["forecast"] <= 1.1 * flops["mine"]
    assert report["calibration"].startswith("what a window of this model said, of depth 2")


def test_a_forecast_that_is_refused_is_left_out_with_the_reason(
    model_folder: Path,
    preset_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(adapter: Any, job: Any, preset: Any, *target: float) -> Any:
        if preset == "forecast":
            raise MotionCacheError("no calibration fits; run calibrate")
        return preset_of(adapter, job, preset, *target)

    monkeypatch.setattr("motioncache_eval.demo.preset_of", refuse)
    assert run(f"model={model_folder}", f"preset={preset_file}", f"output={tmp_path}") == 0
    assert "forecast is left out: no calibration fits; run calibrate\n" in capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    assert set(json.loads((folder / "run.json").read_text())["policies"]) == {"vanilla", "exact", "mine"}


def test_without_a_comparison_only_the_preset_is_sampled(
    model_folder: Path, preset_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"model={model_folder}", f"preset={preset_file}", f"output={tmp_path}", "compare=false") == 0
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"mine.mp4", "decisions.png", "run.json"}
    assert set(json.loads((folder / "run.json").read_text())["results"]["mine"]) == {
        "seconds", "flops", "computed_share",
    }  # fmt: skip
    shown = capsys.readouterr().out
    assert "TFLOPs" in shown
    assert "PSNR" not in shown


def fail_at(monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException) -> None:
    """Let the pipeline fail at the call of this number; the first one warms up."""
    calls: list[None] = []

    def run_or_fail(*arguments: Any) -> torch.Tensor:
        calls.append(None)
        if len(calls) == call:
            raise error
        return _call(*arguments)

    monkeypatch.setattr("motioncache_skyreels.job.sample._call", run_or_fail)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted; kept: mine.mp4 in "),
        (torch.OutOfMemoryError(), 2, "error: cpu has too little memory for 37 frames of 32x16, which take about"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "error: cpu has too little memory"),
    ],
)
def test_what_was_complete_is_kept_when_vanilla_ends_early(
    error: BaseException,
    status: int,
    said: str,
    model_folder: Path,
    preset_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_at(monkeypatch, 3, error)  # after the warm-up and the chosen preset
    assert run(f"model={model_folder}", f"preset={preset_file}", f"output={tmp_path}") == status
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith("-mine.partial")
    assert [path.name for path in folder.iterdir()] == ["mine.mp4"]
    assert read_video(folder / "mine.mp4").shape == (37, 192, 384, 3)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(said)
    assert f"kept: mine.mp4 in {folder}" in last


def test_nothing_is_left_of_a_run_that_is_interrupted_before_its_first_video(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, 2, KeyboardInterrupt())
    assert run(f"model={model_folder}", "preset=exact", f"output={tmp_path}") == 130
    assert list(tmp_path.iterdir()) == []
    assert "interrupted; kept: nothing was complete" in capsys.readouterr().err


@pytest.mark.parametrize("writer", ["motioncache_eval.outputs.write_mp4", "motioncache_eval.demo.write_json"])
def test_a_full_disk_is_one_line(
    writer: str,
    model_folder: Path,
    preset_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fill(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(writer, fill)
    assert run(f"model={model_folder}", f"preset={preset_file}", f"output={tmp_path}", "compare=false") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "cannot be written: No space left on device" in errors[0]
    if writer.endswith("write_mp4"):
        assert list(tmp_path.iterdir()) == []
    else:
        assert "kept: decisions.png, mine.mp4" in errors[0]


def test_an_output_that_leads_nowhere_is_one_line(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for output in (tmp_path / "link", tmp_path / "link" / "below", tmp_path / ("long" * 100)):
        assert run(f"model={model_folder}", "preset=exact", f"output={output}") == 2
        said = capsys.readouterr().err.splitlines()[-1]
        if "longlong" in output.name:
            assert "allowed: a path of at most" in said
        else:
            assert said.startswith(f"error: output={output} cannot be written")
            assert said.endswith(("pass another", "pass another folder"))
