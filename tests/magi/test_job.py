"""The demo on MAGI-1, end to end, and its refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motioncache_eval.cli import main
from motioncache_eval.video import read_video, write_mp4
from motioncache_magi import pipeline
from motioncache_magi.job.config import load_magi_job
from motioncache_magi.job.sample import complete_job, load_pipeline

CONFIG = str(Path(__file__).parents[2] / "MotionCache4MAGI-1" / "addconfig" / "job.yaml")


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{policy: motioncache, warmup: 1, chunk_phase_steps: 2, threshold: 0.05, token_threshold: 0.1, "
        "output: velocity}\n"
    )
    return path


@pytest.mark.parametrize("kind", ["distilled", "base"])
def test_the_demo_writes_everything_it_promises(
    kind: str, preset: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    assert (
        main(
            [
                "demo",
                "--config",
                CONFIG,
                f"model={model}",
                f"preset={preset}",
                f"output={tmp_path / 'out'}",
                "num_frames=40",
            ]
        )
        == 0
    )
    (folder,) = (tmp_path / "out").iterdir()
    names = {"vanilla.mp4", "mine.mp4", "side_by_side.mp4", "decisions.png", "report.html", "run.json"}
    assert {path.name for path in folder.iterdir()} - {"forecast.mp4"} == names
    assert read_video(folder / "vanilla.mp4").shape == (40, 256, 384, 3)
    results = json.loads((folder / "run.json").read_text())["results"]
    assert set(results) - {"forecast"} == {"vanilla", "mine"}  # exact computes what vanilla computes
    assert results["mine"]["flops"] < results["vanilla"]["flops"]


def test_a_video_is_gone_on_from(distilled: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_mp4(tmp_path / "given.mp4", rng.integers(0, 255, (36, 32, 48, 3), np.uint8), fps=24)
    arguments = [f"model={distilled}", "preset=exact", f"output={tmp_path / 'out'}", f"video={tmp_path / 'given.mp4'}"]
    assert main(["demo", "--config", CONFIG, *arguments, "num_frames=32"]) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert len(read_video(folder / "exact.mp4")) == 32


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("preset=quick", "unknown preset 'quick'; .* has: exact, slow, fast"),
        ("hight=64", "job.yaml: unknown key 'hight'"),
        ("prompt=", "prompt: '' is not allowed"),
        ("model=", "model= is empty; pass .* a folder in the layout of the official repository"),
        ("model=./none", "there is no model folder ./none"),
        ("variant=24B_base", "has no variant '24B_base'"),
        ("height=40", "multiples of 16"),
        ("height=0", "height: 0 is not allowed; allowed: null, or a whole number from 1 to 4096"),
        ("fps=-3", "fps: -3 is not allowed; allowed: null, or a number from 1 to 240"),
        ("fps=1000000000", "fps: 1000000000 is not allowed"),
        ("num_frames=0", "num_frames: 0 is not allowed"),
        ("num_frames=4000000000001", "num_frames: 4000000000001 is not allowed; .* from 1 to 86401"),
        ("num_inference_steps=1000000", "num_inference_steps: 1000000 is not allowed; .* from 1 to 1000"),
        ("width=1000000", "width: 1000000 is not allowed; .* from 1 to 4096"),
        ("width=.nan", "width: nan has the wrong type"),
        ("seed=-1", "seed: -1 is not allowed; allowed: 0 or more"),
        ("cpu_offload=true", "cpu_offload=true needs a GPU"),
        ("num_inference_steps=10", "must be a multiple of the window"),
        ("image=none.png", "the image none.png cannot be read"),
        ("video=none.mp4", "the video none.mp4 cannot be read"),
        ("device=tpu", "device: 'tpu' is not allowed"),
        ("dtype=float8", "dtype: 'float8' is not allowed"),
        ("special_tokens=none.npz", "none.npz is missing"),
        ("config=none.json", "the configuration none.json cannot be read"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(
    override: str, message: str, distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"model={distilled}", "preset=exact", f"output={tmp_path / 'out'}", override]
    assert main(["demo", "--config", CONFIG, *arguments]) == 2
    error = capsys.readouterr().err
    assert pytest.importorskip("re").search(message, error), error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()  # refused before any work


def test_the_seed_is_the_models_where_the_job_has_none(distilled: Path) -> None:
    for text, seed in (("null", 1234), ("0", 0), ("7", 7)):
        job = load_magi_job(Path(CONFIG), [f"model={distilled}", "variant=null", f"seed={text}"])
        job = complete_job(load_pipeline(job), job)
        assert job.seed == seed


def test_a_prompt_is_taken_to_the_letter(
    distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "word-of-the-environment")
    prompt = "prompt=a ${oc.env:SECRET} ${SECRET} $SECRET ${seed} circle"
    arguments = [f"model={distilled}", "preset=slow", f"output={tmp_path}", "num_frames=4", prompt]
    assert main(["demo", "--config", CONFIG, *arguments]) == 0
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "run.json").read_text())["config"]["prompt"] == prompt.removeprefix("prompt=")
    written = capsys.readouterr().out + (folder / "run.json").read_text() + (folder / "report.html").read_text()
    assert "word-of-the-environment" not in written


@pytest.mark.parametrize("field", ["model", "image", "preset", "output", "seed", "fps"])
def test_no_other_setting_reads_the_environment(
    field: str, distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUMBER", "5")
    monkeypatch.chdir(tmp_path)
    given = [f"model={distilled}", "preset=exact", f"output={tmp_path / 'out'}", f"{field}=${{oc.env:NUMBER}}"]
    code = main(["demo", "--config", CONFIG, *given, "num_frames=4"])
    if field == "output":  # a folder may have this name
        assert code == 0
        assert [path.name for path in tmp_path.iterdir()] == ["${oc.env:NUMBER}"]
    else:
        assert code == 2
        assert "${oc.env:NUMBER}" in capsys.readouterr().err


def test_a_video_that_no_memory_holds_is_refused_in_one_line(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_noise = pipeline.draw_noise

    def draw(*given: Any, **options: Any) -> torch.Tensor:
        torch.empty(2**60, dtype=torch.uint8)  # more than there is
        return draw_noise(*given, **options)

    monkeypatch.setattr(pipeline, "draw_noise", draw)
    assert (
        main(["demo", "--config", CONFIG, f"model={distilled}", "preset=exact", f"output={tmp_path}", "num_frames=4"])
        == 2
    )
    error = capsys.readouterr().err
    assert "cpu has too little memory for 1 frames of 48x32: pass a smaller video" in error
