"""What a calibration is made of, without a model."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml

from motioncache.errors import ConfigError, MotionCacheError
from motioncache.forecast.calibration import Calibration, ModelIdentity
from motioncache_eval import calibrate
from motioncache_eval.calibrate import Exact, all_steps, main, with_progress
from motioncache_eval.calibration_progress import Progress

SIGMAS = tuple(np.linspace(1.0, 0.1, 8).tolist())


@dataclass(frozen=True)
class Job:
    prompt: str = ""
    seed: int = 0
    num_inference_steps: int = 8


def exact(job: Job, *scales: float) -> Exact:
    """A video whose chunks have these products, up to their scale."""
    sigmas = SIGMAS[:: 8 // job.num_inference_steps]
    found = {chunk: scale * np.eye(len(sigmas)) for chunk, scale in enumerate(scales)}
    return Exact(job=job, latents=torch.zeros(1), found=found, values_per_chunk=1, sigmas=sigmas)


def made(monkeypatch: pytest.MonkeyPatch, sample: Any) -> Any:
    """A calibration of two prompts, and the videos that the sensitivity is measured in."""
    shorter: list[Exact] = []

    def measure(model: Any, videos: list[Exact], *_: Any) -> Any:
        shorter.extend(videos)
        return np.ones(8)

    monkeypatch.setattr(calibrate, "sample_exact", sample)
    monkeypatch.setattr(calibrate, "measure_sensitivity", measure)
    model: Any = SimpleNamespace(
        job=Job(), identity=ModelIdentity(1, 1, weights=()), guidance=lambda job: {"only": 1.0}
    )
    return calibrate.calibrate(model, ["a", "b"]), shorter


def test_products_are_means_over_chunks_and_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    result, shorter = made(monkeypatch, lambda _, job: exact(job, *{"a": (1.0, 3.0), "b": (8.0,)}[job.prompt]))
    assert result.products == pytest.approx(4 * np.eye(8))
    assert [video.job.num_inference_steps for video in shorter] == [4, 4]
    assert len({video.job.seed for video in shorter}) == 2


def test_of_a_guided_model_both_parts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight steps of the velocity without the prompt, and eight of what the prompt adds, at a scale of 3."""
    both = np.diag([2.0] * 8 + [0.5] * 8)
    monkeypatch.setattr(calibrate, "sample_exact", lambda _, job: replace(exact(job), found={0: both}))
    monkeypatch.setattr(calibrate, "measure_sensitivity", lambda *_: np.ones(8))
    model: Any = SimpleNamespace(
        job=Job(), identity=ModelIdentity(1, 1, weights=()), guidance=lambda job: {"cond": 3.0, "uncond": -2.0}
    )
    result = calibrate.calibrate(model, ["a"])
    assert result.parts == pytest.approx(both)
    assert result.products == pytest.approx((2.0 + 9 * 0.5) * np.eye(8))


def test_where_half_of_the_steps_cannot_be_sampled_all_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(_: Any, job: Job) -> Exact:
        if job.num_inference_steps == 4:
            raise ConfigError("4 steps are none of mine")
        return exact(job, 1.0)

    _, shorter = made(monkeypatch, sample)
    assert [video.job.num_inference_steps for video in shorter] == [8, 8]
    assert "4 steps are none of mine: measuring with all 8 steps" in capsys.readouterr().out


def test_a_seed_that_leaves_no_room_is_refused() -> None:
    model: Any = SimpleNamespace(job=Job(seed=2**63 - 1), identity=ModelIdentity(1, 1, weights=()))
    with pytest.raises(ConfigError, match="seed: 9223372036854776807 is not allowed"):
        calibrate.calibrate(model, ["a"])


@dataclass(frozen=True)
class Model:
    """A model whose videos take no time."""

    call: Callable[..., torch.Tensor]
    job: Job = Job(num_inference_steps=40)


def test_the_bar_reaches_its_end_with_the_last_video() -> None:
    """For each of 3 videos: 40 steps, 20 steps, and 12 forecasts of 20 steps."""
    bar: Any = SimpleNamespace(total=all_steps(Job(num_inference_steps=40), 3), n=0)
    bar.update = lambda steps: setattr(bar, "n", bar.n + steps)
    assert bar.total == 3 * (40 + 20 + 12 * 20)

    def call(_: Any, job: Job, __: Any) -> torch.Tensor:
        if job.num_inference_steps < 40:
            raise ConfigError("20 steps are none of mine")
        return torch.zeros(1)

    counted: Any = with_progress(Model(call), bar, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError):
        counted.call(None, replace(counted.job, num_inference_steps=20), None)
    assert bar.total == 3 * (40 + 40 + 12 * 40)
    counted.call(None, counted.job, None)
    assert bar.n == 40


def test_a_short_calibration_forecasts_every_step_of_its_shorter_videos() -> None:
    assert all_steps(Job(num_inference_steps=8), 1) == 8 + 4 + 3 * 4


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"prompt": "a red circle"}))
    return path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["skyreels-v2", "JOB", "--output", "none/a.json"], "there is no folder none; make it first"),
        (["skyreels-v2", "JOB", "--output", "."], "--output . is a folder: pass a file"),
        (["skyreels-v2", "JOB", "--output", "a" * 300], "--output: 'aaa"),
        (["sora", "JOB", "--output", "a.json"], "there is no model 'sora'"),
        (["skyreels-v2", "none.yaml", "--output", "a.json"], "there is no config file none.yaml"),
        (["skyreels-v2", "DAMAGED", "--output", "a.json"], "damaged.yaml is not valid YAML"),
        (["skyreels-v2", "JOB", "nope=1", "--output", "a.json"], "unknown key 'nope'"),
        (["skyreels-v2", "JOB", "seed=-1", "--output", "a.json"], "seed: -1 is not allowed"),
        (["skyreels-v2", "JOB", "--prompts", "none.txt", "--output", "a.json"], "none.txt' cannot be read"),
        (["skyreels-v2", "JOB", "--prompts", "EMPTY", "--output", "a.json"], "empty.txt holds no prompts"),
        (["skyreels-v2", "JOB", "--prompts", ".", "--output", "a.json"], "cannot be read"),
        (["skyreels-v2", "JOB", "prompt=a", "--prompts", "PROMPTS", "--output", "a.json"], "leave one out"),
        (["magi-1", "JOB", "--output", "a.json"], "model: '' is not allowed"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(
    arguments: list[str],
    says: str,
    job: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {"JOB": job, "DAMAGED": tmp_path / "damaged.yaml", "EMPTY": tmp_path / "empty.txt"}
    files["PROMPTS"] = tmp_path / "prompts.txt"
    files["DAMAGED"].write_text("a: [")
    files["EMPTY"].write_text("\n")
    files["PROMPTS"].write_text("a\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main([str(files.get(argument, argument)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_usage_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "--prompts" in capsys.readouterr().out


def test_an_interrupt_leaves_the_calibration_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calibration.json"
    made = Calibration(ModelIdentity(1, 1, weights=()), (1.0, 0.5), products=np.eye(2), sensitivity=np.ones(2))
    made.save(path)
    before = path.read_text()
    assert json.loads(before)["sigmas"] == [1.0, 0.5]

    def half(self: Path, text: str, **options: Any) -> int:
        self.write_bytes(text.encode()[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        replace(made, sensitivity=2 * np.ones(2)).save(path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


RIGHT: dict[str, Any] = {
    "layers": 1,
    "width": 2,
    "guidance": None,
    "weights": [0.1],
    "sigmas": [1.0, 0.5, 0.25],
    "products": [[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]],
    "sensitivity": [2.0, 1.0, 3.0],
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"products": np.random.default_rng(0).normal(size=(3, 3)).tolist()}, "products"),
        ({"products": (-np.array(RIGHT["products"])).tolist()}, "positive products on the diagonal"),
        ({"products": [[1.0, 0.5, 0.2], [0.1, 1.0, 0.5], [0.2, 0.5, 1.0]]}, "symmetric and positive semidefinite"),
        ({"products": [[0.0] * 3] * 3}, "positive products on the diagonal"),
        ({"products": [[1.0, 2.0, 0.2], [2.0, 1.0, 0.5], [0.2, 0.5, 1.0]]}, "symmetric and positive semidefinite"),
        ({"sigmas": [1000.0, 500.0, 250.0]}, "sigmas above 0 that do not exceed 1"),
        ({"sensitivity": [2.0, 0.0, 3.0]}, "positive sensitivity"),
        ({"sensitivity": [2.0, -1.0, 3.0]}, "positive sensitivity"),
        ({"sigmas": []}, "falling sigmas"),
        ({"products": []}, "n x n finite products"),
    ],
)
def test_a_calibration_that_no_measurement_gives_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(RIGHT | change))
    with pytest.raises(ConfigError, match=says) as refused:
        Calibration.load(path)
    assert len(str(refused.value).splitlines()) == 1


def test_a_calibration_without_weights_serves_models_that_are_not_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(RIGHT | {"weights": []}))
    loaded = Calibration.load(path).model
    assert loaded.weights == ()
    assert loaded.differs(ModelIdentity(1, 2, weights=(0.1,))) == "on weights that it does not name"
    assert loaded.differs(ModelIdentity(1, 3, weights=())) is not None


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    settings = {"prompt": "a"}
    first = Progress(tmp_path / "a.json", settings)
    assert first.number("one", lambda: 2.5) == 2.5
    again = Progress(tmp_path / "a.json", settings)
    assert again.count == 1

    def never() -> float:
        raise AssertionError

    assert again.number("one", never) == 2.5
    with pytest.raises(MotionCacheError, match=r"a.json.progress holds measurements with other settings"):
        Progress(tmp_path / "a.json", {"prompt": "b"})
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_video_comes_back_from_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(exact(Job(), 1.0, 3.0), latents=torch.ones(1, 2))
    monkeypatch.setattr(calibrate, "sample_exact", lambda *_: made)
    progress, model = Progress(tmp_path / "a.json", {}), cast("Any", None)
    for _ in range(2):
        video = calibrate.kept_exact(progress, "exact-0", model, made.job)
        assert torch.equal(video.latents, made.latents)
        assert (video.sigmas, video.values_per_chunk, video.job) == (made.sigmas, made.values_per_chunk, made.job)
        assert all(np.array_equal(video.found[chunk], made.found[chunk]) for chunk in (0, 1))
        monkeypatch.setattr(calibrate, "sample_exact", None)


def test_the_cost_is_stated_before_anything_is_sampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate.state_cost(Job(num_inference_steps=40), 3, Progress(tmp_path / "a.json", {}))
    assert "calibrating with 3 videos: 900 denoise steps, all computed, which is the work of 22 videos" in (
        capsys.readouterr().out
    )
