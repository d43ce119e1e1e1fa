"""The policy `forecast` on MAGI-1, and measuring a model for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import motioncache
from motioncache import ForecastConfig
from motioncache.api import get_hook
from motioncache.forecast.calibration import Calibration
from motioncache_eval.calibrate import OWN_PROMPT_VIDEOS, main
from motioncache_eval.velocity_probes import GuidedVelocities
from motioncache_eval.video import write_mp4
from motioncache_magi.cache.hook import identity_of
from motioncache_magi.pipeline import MagiPipeline

from ..calibration import watched_planner, write_calibration
from .test_bench import JOB
from .test_pipeline import generator, load


@pytest.fixture(scope="module", params=["distilled", "base"])
def pipe(request: pytest.FixtureRequest) -> MagiPipeline:
    return load(request.getfixturevalue(request.param))


@pytest.fixture
def measured(tmp_path: Path, pipe: MagiPipeline) -> str:
    return write_calibration(tmp_path, identity_of(pipe.transformer), steps=32)


def latents(pipe: MagiPipeline, **call: Any) -> torch.Tensor:
    options = {"num_frames": 72, "output_type": "latent", "generator": generator(), **call}
    return pipe("a red circle", **options).frames


@pytest.mark.parametrize("target", [1.5, 2.0, 3.0])
def test_the_budget_is_kept(pipe: MagiPipeline, measured: str, target: float) -> None:
    config = ForecastConfig(target_speedup=target, calibration=measured)
    with motioncache.cached(pipe, config) as statistics, watched_planner() as seen:
        latents(pipe, num_inference_steps=32)
    summary = statistics.summary()
    assert [profile.flops(policy.planned) for profile, policy in seen] == [summary.flops]
    assert target <= summary.vanilla_flops / summary.flops < 1.05 * target


def test_a_target_of_1_computes_everything(pipe: MagiPipeline) -> None:
    vanilla = latents(pipe)
    with motioncache.cached(pipe, ForecastConfig(target_speedup=1.0)):
        assert torch.allclose(latents(pipe), vanilla, atol=1e-6)


def test_given_frames_are_not_planned(pipe: MagiPipeline, measured: str) -> None:
    video = np.zeros((25, 32, 48, 3), np.uint8)
    config = ForecastConfig(target_speedup=2.0, calibration=measured)
    with motioncache.cached(pipe, config) as statistics:
        latents(pipe, video=video, num_inference_steps=32)
    summary = statistics.summary()
    assert 0.95 * 2.0 <= summary.vanilla_flops / summary.flops <= 1.05 * 2.0


def test_a_model_is_measured_and_the_file_serves_it(distilled: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    output = tmp_path / "mine.json"
    options = [f"model={distilled}", "variant=null", "num_frames=48", "num_inference_steps=32"]
    prompts = str(tmp_path / "prompts.txt")
    assert main(["magi-1", str(JOB), *options, "--prompts", prompts, "--output", str(output)]) == 0
    held = json.loads(output.read_text())
    assert (held["layers"], held["width"], len(held["sigmas"])) == (2, 64, 32)
    products = np.array(held["products"])
    assert np.allclose(products, products.T)
    assert np.linalg.eigvalsh(products).min() > -1e-5 * products.max()
    assert len(held["sensitivity"]) == 32
    assert min(held["sensitivity"]) > 0
    assert len(set(held["sensitivity"])) > 10
    pipe = load(distilled)
    vanilla = latents(pipe, num_inference_steps=16)
    errors = {}
    for order in (1, 2):
        config = ForecastConfig(target_speedup=2.0, calibration=str(output), order=order)
        with motioncache.cached(pipe, config):
            errors[order] = float((latents(pipe, num_inference_steps=16) - vanilla).square().mean())
    # Fewer steps and more frames than in the measurement.
    assert errors[2] < errors[1]


def test_without_prompts_the_jobs_own_is_measured(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mine.json"
    options = [f"model={distilled}", "variant=null", "num_frames=24", "prompt=a red circle"]
    assert main(["magi-1", str(JOB), *options, "num_inference_steps=16", "--output", str(output)]) == 0
    assert capsys.readouterr().out.count("a red circle, chunk 0: ") == OWN_PROMPT_VIDEOS
    assert len(json.loads(output.read_text())["sigmas"]) == 16


def test_too_few_steps_are_refused(distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mine.json"
    options = [f"model={distilled}", "variant=null", "num_frames=24", "prompt=a red circle", "num_inference_steps=4"]
    assert main(["magi-1", str(JOB), *options, "--output", str(output)]) == 2
    assert "needs 8 steps at least, not 4" in capsys.readouterr().err
    assert not output.exists()


def test_a_step_count_that_cannot_be_halved_is_measured_whole(distilled: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.json"
    options = [f"model={distilled}", "variant=null", "num_frames=24", "prompt=a red circle"]
    assert main(["magi-1", str(JOB), *options, "num_inference_steps=12", "--output", str(output)]) == 0
    assert len(Calibration.load(output).sigmas) == 12


def test_a_video_that_goes_on_is_measured_chunk_by_chunk(
    distilled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given frames are a chunk that is never denoised, so the first that is has not the number 0."""
    write_mp4(tmp_path / "given.mp4", np.zeros((25, 32, 48, 3), np.uint8), fps=24)
    output = tmp_path / "mine.json"
    options = [f"model={distilled}", "variant=null", "num_frames=24", "prompt=a red circle", "num_inference_steps=16"]
    assert main(["magi-1", str(JOB), *options, f"video={tmp_path / 'given.mp4'}", "--output", str(output)]) == 0
    assert capsys.readouterr().out.count("a red circle, chunk 1: ") == OWN_PROMPT_VIDEOS
    assert Calibration.load(output).sensitivity.min() > 0


def test_bad_paths_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "no" / "folder.json"
    assert main(["magi-1", str(JOB), "--prompts", str(tmp_path / "none.txt"), "--output", str(missing)]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["magi-1", str(JOB), "--output", str(tmp_path)]) == 2
    assert "is a folder: pass a file" in capsys.readouterr().err


def test_a_model_is_measured_in_its_first_video_as_a_calibration_measures_it(
    pipe: MagiPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONCACHE_CACHE", str(tmp_path))
    vanilla = latents(pipe, num_inference_steps=32)
    with motioncache.cached(pipe, ForecastConfig(target_speedup=2.0, calibration="auto")) as statistics:
        velocities = GuidedVelocities({pipe.branch: 1.0})
        velocities.attach(get_hook(pipe))
        assert torch.allclose(latents(pipe, num_inference_steps=32), vanilla, atol=1e-6)
        get_hook(pipe).engine.probe = None
        latents(pipe, num_inference_steps=32)
    (kept,) = (tmp_path / "calibrations").iterdir()
    expected = np.mean(list(velocities.products().values()), axis=0)
    assert Calibration.load(kept).products == pytest.approx(expected, rel=1e-4)
    assert statistics.summary().vanilla_flops / statistics.summary().flops == pytest.approx(2, rel=0.05)
    errors = statistics.summary().forecast_errors
    assert errors is not None
    assert errors.found == pytest.approx(errors.expected, rel=1)
