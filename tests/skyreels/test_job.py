"""The demo, end to end, and its refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from motioncache.errors import MotionCacheError
from motioncache.latents import check_latents
from motioncache_eval.cli import main
from motioncache_eval.video import read_video
from motioncache_skyreels.job.checkpoint import CHECKPOINT
from motioncache_skyreels.job.config import JobConfig, load_job
from motioncache_skyreels.job.load import load_pipeline
from motioncache_skyreels.job.sample import run_pipeline
from motioncache_skyreels.memory import create_empty

from .conftest import SMALL

CONFIG = str(Path(__file__).parents[2] / "addconfig" / "config.yaml")


def run(*overrides: str) -> int:
    return main(["demo", "--config", CONFIG, *SMALL, *overrides])


def test_the_demo_writes_everything_it_promises(
    model_folder: Path, preset_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"model={model_folder}", f"preset={preset_file}", f"output={tmp_path}", "seed=3") == 0
    (folder,) = tmp_path.iterdir()
    names = {f"{name}.mp4" for name in ("vanilla", "exact", "mine", "side_by_side")}
    names |= {"decisions.png", "report.html", "run.json"}
    shown = capsys.readouterr().out
    if "forecast is left out" not in shown:  # no calibration was measured on these weights
        names.add("forecast.mp4")
    assert {path.name for path in folder.iterdir()} == names
    assert read_video(folder / "vanilla.mp4").shape == (37, 192, 384, 3)
    frames, height, width, _ = read_video(folder / "side_by_side.mp4").shape
    assert (frames, width) == (37, 2 * 384 + 8)
    assert height > 192 + 30  # the labels
    report = json.loads((folder / "run.json").read_text())
    assert report["config"]["seed"] == 3
    assert report["versions"]["torch"] == torch.__version__
    assert report["preset"] == "mine"
    assert report["policies"]["vanilla"] is None
    assert report["policies"]["mine"]["normalisation"] == "max_rescale"
    results = report["results"]
    assert set(results) - {"forecast"} == {"vanilla", "exact", "mine"}
    for figures in results.values():
        assert set(figures) >= {
            "seconds", "speedup", "flops", "psnr_db", "ssim", "max_abs_latent_difference", "computed_share",
        }  # fmt: skip
    assert results["vanilla"]["speedup"] == 1
    assert results["vanilla"]["psnr_db"] == 120
    assert results["exact"]["max_abs_latent_difference"] < 2e-5
    assert results["mine"]["flops"] < results["exact"]["flops"] < results["vanilla"]["flops"]
    assert results["mine"]["computed_share"] < 1
    assert all(word in shown for word in ("vanilla", "exact", "mine", "speed-up", "PSNR"))


def test_a_target_out_of_reach_is_refused_before_other_presets_are_sampled(
    model_folder: Path, measured: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "mine.yaml"
    policy = f"policy: forecast\ncalibration: {measured}\nallow_foreign_calibration: true\n"
    preset.write_text(f"{policy}target_speedup: 100\n")
    assert run(f"model={model_folder}", f"preset={preset}", f"output={tmp_path / 'out'}") == 2
    said = capsys.readouterr().err
    assert "target_speedup: 100 is too much for this video" in said
    assert "mine" in said
    assert "vanilla" not in said
    preset.write_text("policy: forecast\ncalibration: none.json\n")
    assert run(f"model={model_folder}", f"preset={preset}", f"output={tmp_path / 'out'}") == 2
    assert "there is no calibration none.json" in capsys.readouterr().err
    assert list((tmp_path / "out").glob("*")) == []


def test_an_exact_run_has_two_presets_and_two_runs_two_folders(model_folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert run(f"model={model_folder}", "preset=exact", f"output={tmp_path}") == 0
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 2
    assert set(json.loads((folders[0] / "run.json").read_text())["results"]) == {"vanilla", "exact"}


def damaged(model_folder: Path, tmp_path: Path, part: str) -> Path:
    copy = tmp_path / "damaged"
    shutil.copytree(model_folder, copy)
    path = next((copy / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return copy


def without_tensor(model_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "incomplete"
    shutil.copytree(model_folder, copy)
    path = next((copy / "transformer").glob("*.safetensors"))
    tensors = load_file(path)
    del tensors["blocks.1.attn1.to_q.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    return copy


def of_class(model_folder: Path, tmp_path: Path, name: str) -> Path:
    copy = tmp_path / "other"
    shutil.copytree(model_folder, copy)
    index = copy / "model_index.json"
    index.write_text(index.read_text().replace("SkyReelsV2DiffusionForcingPipeline", name))
    return copy


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("preset=quick", r"unknown preset 'quick'; .* has: exact, slow, fast"),
        ("preset=none.yaml", "there is no config file none.yaml"),
        ("hight=64", r"config.yaml: unknown key 'hight'; known keys: .*height"),
        ("height=sixty", r"config.yaml.height: 'sixty' has the wrong type"),
        ("height=60", "height: 60 is not allowed; allowed: a multiple of 16"),
        ("prompt=", "prompt: '' is not allowed; allowed: a sentence"),
        ("prompt=  ", "prompt: '  ' is not allowed"),
        ("num_frames=38", r"num_frames: 38 is not allowed; allowed: 4 n \+ 1"),
        ("num_frames=41", "overlap_history: None is not allowed; allowed: 17 or 37"),
        ("base_num_frames=41 num_frames=41", "num_frames=41 does not divide .* pass num_frames=37 or 57"),
        ("device=cuda", "device=cuda, but this machine offers no CUDA device to PyTorch; pass device=cpu"),
        ("causal_block_size=1", "causal_block_size: 1 is not allowed; allowed: 2 or more where ar_step > 0"),
        ("flow_shift=0", "flow_shift: 0.0 is not allowed; allowed: null, or a number from 0.01 to 100"),
        ("flow_shift=.nan", "flow_shift: nan"),
        ("guidance_scale=.nan", "guidance_scale: nan"),
        ("guidance_scale=.inf", "guidance_scale: inf"),
        ("guidance_scale=-1", "guidance_scale: -1.0 is not allowed; allowed: a number from 0 to 100"),
        ("addnoise_condition=.nan", "addnoise_condition: nan"),
        ("addnoise_condition=-0.5", "addnoise_condition: -0.5 is not allowed; allowed: a number from 0 to 1000"),
        ("fps=1000000000", "fps: 1000000000 is not allowed; allowed: a number from 1 to 240"),
        ("num_inference_steps=1000000", "num_inference_steps: 1000000 is not allowed; .* from 1 to 1000"),
        ("height=1000000", "height: 1000000 is not allowed; allowed: a whole number from 1 to 4096"),
        ("num_frames=4000000000001", "num_frames: 4000000000001 is not allowed; .* from 1 to 86401"),
        ("causal_block_size=1000000000", "causal_block_size: 1000000000 is not allowed; .* from 1 to 1000"),
        ("overlap_history=0", "overlap_history: 0 is not allowed; allowed: null, or a whole number from 1 to 86401"),
        ("overlap_history=-17", "overlap_history: -17 is not allowed"),
        ("overlap_history=18", r"overlap_history: 18 is not allowed; allowed: 4 n \+ 1"),
        (
            "num_frames=77 overlap_history=37",
            "overlap_history: 37 is not allowed; allowed: less than base_num_frames=37",
        ),
        ("num_frames=57 overlap_history=21", "share 6 latent frames, .* chunks of 5: pass overlap_history=17"),
        ("base_num_frames=98", r"base_num_frames: 98 is not allowed; allowed: 4 n \+ 1"),
        ("device=tpu", "device: 'tpu' is not allowed; allowed: cpu, cuda or cuda:N"),
        ("dtype=float8", "dtype: 'float8' is not allowed; allowed: float32, bfloat16, float16"),
        ("cpu_offload=true", "cpu_offload=true needs a GPU"),
        ("model=./no/such/folder", "there is no model folder ./no/such/folder"),
        ("seed", "'seed' is not an override: write key=value"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(
    override: str, message: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if override.startswith("device=cuda") and torch.cuda.is_available():
        pytest.skip("this machine has the device that the test must not find")
    given = [override] if override.startswith("prompt") else override.split()
    code = run(f"model={model_folder}", "preset=exact", f"output={tmp_path / 'out'}", *given)
    error = capsys.readouterr().err
    assert code == 2
    assert pytest.importorskip("re").search(message, error), error
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert not (tmp_path / "out").exists()  # refused before any work


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_damaged_checkpoint_is_refused(
    part: str, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"model={damaged(model_folder, tmp_path, part)}", f"output={tmp_path / 'out'}") == 2
    error = capsys.readouterr().err
    assert "cannot be loaded" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_missing_tensor_is_named(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"model={without_tensor(model_folder, tmp_path)}", f"output={tmp_path / 'out'}") == 2
    assert "1 missing tensors, blocks.1.attn1.to_q.weight among them" in capsys.readouterr().err


def test_another_model_class_is_refused(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"model={of_class(model_folder, tmp_path, 'WanPipeline')}", f"output={tmp_path / 'out'}") == 2
    assert "is a folder of no installed model; pass one of magi-1, skyreels-v2" in capsys.readouterr().err
    with pytest.raises(MotionCacheError, match="holds a WanPipeline; this needs a SkyReelsV2DiffusionForcingPipeline"):
        CHECKPOINT.check_folder(str(tmp_path / "other"))


def test_an_output_that_cannot_be_written_is_refused_and_keeps_what_it_is(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("mine")
    assert run(f"model={model_folder}", "preset=exact", f"output={occupied}") == 2
    assert "is a file; pass a folder" in capsys.readouterr().err
    assert occupied.read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place that nobody can write to, such as /proc")
def test_an_output_on_a_read_only_place_is_refused(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"model={model_folder}", "preset=exact", "output=/proc/motioncache") == 2
    assert "output=/proc/motioncache cannot be written" in capsys.readouterr().err


def test_flow_shift_changes_the_schedule(model_folder: Path) -> None:
    shifts = [
        load_pipeline(load_job(Path(CONFIG), [*SMALL, f"model={model_folder}", f"flow_shift={shift}"])).scheduler.config
        for shift in ("null", "3")
    ]
    assert [config["flow_shift"] for config in shifts] == [8, 3]


def test_a_prompt_is_taken_to_the_letter(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "word-of-the-environment")
    prompt = "a ${oc.env:SECRET} ${SECRET} $SECRET ${seed} circle"
    assert run(f"model={model_folder}", "preset=exact", f"output={tmp_path}", f"prompt={prompt}") == 0
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "run.json").read_text())["config"]["prompt"] == prompt
    written = capsys.readouterr().out + (folder / "run.json").read_text() + (folder / "report.html").read_text()
    assert "word-of-the-environment" not in written


@pytest.mark.parametrize("field", ["model", "preset", "seed", "fps", "dtype", "overlap_history"])
def test_no_other_setting_reads_the_environment(
    field: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUMBER", "5")
    given = [f"model={model_folder}", "preset=exact", f"output={tmp_path / 'out'}", f"{field}=${{oc.env:NUMBER}}"]
    assert run(*given) == 2
    assert "${oc.env:NUMBER}" in capsys.readouterr().err


def job_of(model_folder: Path) -> JobConfig:
    return load_job(Path(CONFIG), [*SMALL, f"model={model_folder}", "preset=exact"])


def test_latents_that_are_not_finite_are_refused(model_folder: Path) -> None:
    job = job_of(model_folder)
    pipeline = load_pipeline(job)
    assert run_pipeline(pipeline, job).isfinite().all()
    pipeline.transformer.proj_out.bias.data[0] = torch.nan  # after the check of what was loaded
    with pytest.raises(MotionCacheError, match="latent frame 0 was sampled as NaN or infinite"):
        run_pipeline(pipeline, job)


def test_the_first_latent_frame_that_is_not_finite_is_named() -> None:
    latents = torch.zeros(1, 4, 6, 2, 3)
    check_latents(latents)
    latents[0, 3, 4, 1, 2], latents[0, 0, 5, 0, 0] = -torch.inf, torch.nan
    with pytest.raises(MotionCacheError, match="latent frame 4 was sampled"):
        check_latents(latents)
    with pytest.raises(MotionCacheError, match="latent frame 16 was sampled"):
        check_latents(latents[0], first_frame=12)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "32x16, which take about 22 GiB, or 21 GiB with cpu_offload=true: pass cpu_offload=true, kv=int8 or ",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "frames of 32x16: pass a smaller"),
        (MemoryError(), "cpu has too little memory for 37 frames of 32x16: pass a smaller video"),
    ],
)
def test_a_job_that_no_memory_holds_is_refused_in_one_line(error: Exception, message: str, model_folder: Path) -> None:
    class Pipeline:
        transformer = create_empty({"num_layers": 1, "num_attention_heads": 1, "ffn_dim": 16})

        def __call__(self, *_: Any, **__: Any) -> None:
            raise error

    with pytest.raises(MotionCacheError, match=message):
        run_pipeline(Pipeline(), job_of(model_folder))  # pyright: ignore[reportArgumentType]


def test_other_errors_keep_their_traceback(model_folder: Path) -> None:
    def pipeline(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        run_pipeline(pipeline, job_of(model_folder))  # pyright: ignore[reportArgumentType]
