"""The benchmark on a small MAGI-1: cells, resumption, errors, and the report."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from motioncache_eval.bench.__main__ import main
from motioncache_magi.job import sample as magi_sample

from .bench_files import cells, page_data, write

JOB = Path(__file__).parents[2] / "MotionCache4MAGI-1" / "addconfig" / "job.yaml"

TEACACHE = {"policy": "teacache", "warmup": 1, "threshold": 0.1, "output": "velocity"}
METHODS: dict[str, Any] = {
    "vanilla": {},
    "vanilla again": {},
    "4 steps": {"preset": "exact", "job": {"num_inference_steps": 4}},
    "exact": {"preset": "exact"},
    "TeaCache 0.1": {"policy": TEACACHE},
}
TUNED = {"policy": TEACACHE, "tune": {"knob": "policy.threshold", "low": 0.01, "high": 1.0}}
STEPS = {"preset": "exact", "tune": {"knob": "job.num_inference_steps", "low": 4, "high": 12, "multiple": 4}}


@pytest.fixture
def config(distilled: Path, tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    return write(
        tmp_path,
        {
            "model": "magi-1",
            "job": str(JOB),
            "prompts": "prompts.txt",
            "output": "results",
            "settings": {"model": str(distilled), "variant": None, "num_frames": 48},
            "methods": METHODS,
            "compare": [["4 steps", "exact"]],
        },
    )


def test_every_method_is_measured_and_reported(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "--share", "1/2"]) == 0
    assert {name.rpartition("/")[2] for name in cells(config)} == {"001"}
    assert main([str(config)]) == 0
    found = cells(config)
    assert set(found) == {
        f"{method}/00{i}" for i in (0, 1) for method in ("vanilla", "vanilla-again", "4-steps", "exact", "teacache-0.1")
    }
    exact, steps, tea = (found[f"{name}/001"] for name in ("exact", "4-steps", "teacache-0.1"))
    assert exact["psnr_db"] == found["vanilla-again/001"]["psnr_db"] == 120  # the noise floor
    assert tea["psnr_db"] < 120
    assert tea["flops"] < exact["flops"] == exact["vanilla_flops"]
    assert steps["flops"] < 0.6 * exact["flops"]
    assert len(exact["psnr_of_chunks_db"]) == 2
    assert exact["prompt"] == "a blue square"
    assert found["exact/000"]["job"]["seed"] + 1 == exact["job"]["seed"]
    assert tea["policy"]["is"] == "MagiTeaCacheConfig"
    assert "/" not in exact["job"]["model"]  # nothing of this machine
    noise = [{cell["noise"] for name, cell in found.items() if name.endswith(prompt)} for prompt in ("000", "001")]
    assert len(noise[0]) == len(noise[1]) == 1  # the same for all methods
    assert noise[0] != noise[1]
    table = (config.parent / "results" / "table.md").read_text()
    assert "| TeaCache 0.1 | 2 |" in table
    cost = {name: sum(found[f"{name}/00{i}"]["flops"] for i in (0, 1)) / 2 for name in ("vanilla", "4-steps")}
    ratio = cost["vanilla"] / cost["4-steps"]
    assert f"| 4 steps | 2 | {cost['4-steps'] / 1e12:.3f} | {ratio:.2f}x |" in table
    vanilla = found["vanilla/001"]
    assert vanilla["flops"] == pytest.approx(exact["flops"], rel=0.01)  # counted by torch, and by the cache
    assert 0 < vanilla["median_model_seconds"] < vanilla["median_seconds"]
    assert 0 < vanilla["median_first_chunk_seconds"] < vanilla["median_seconds"]
    assert exact["flip"] == 0 < tea["flip"]
    assert "exact against 4 steps: +" in table
    assert table in capsys.readouterr().out
    assert (config.parent / "results" / "curve.png").stat().st_size > 5000
    videos = page_data(config)["videos"]
    assert list(videos) == ["a red circle", "a blue square"]
    assert set(page_data(config)["chosen"]) == set(METHODS)  # all, without budgets
    assert set(videos["a red circle"]) == set(METHODS)
    assert videos["a red circle"]["TeaCache 0.1"]["frames"] == 48
    assert len(videos["a red circle"]["TeaCache 0.1"]["decisions"]) == 2


def test_a_method_may_be_measured_on_a_few_prompts(config: Path) -> None:
    methods = {"vanilla": {}, "vanilla again": {"count": 1}}
    changes = {"methods": methods, "compare": [], "repeats": 3}
    write(config.parent, yaml.safe_load(config.read_text()) | changes)
    assert main([str(config)]) == 0
    found = cells(config)
    assert set(found) == {"vanilla/000", "vanilla/001", "vanilla-again/000"}
    assert len(found["vanilla/001"]["seconds"]) == 3
    table = (config.parent / "results" / "table.md").read_text()
    assert "2 prompts or fewer, each timed 3 x" in table
    rows = re.findall(r"Fidelity over (\d) prompts?:\n\n.*\n.*\n\| ([a-z ]+) \|", table)
    assert rows == [("2", "vanilla"), ("1", "vanilla again")]


def test_a_video_that_is_missing_or_broken_says_so(config: Path) -> None:
    assert main([str(config), "count=1"]) == 0
    views = config.parent / "results" / "views"
    (views / "exact" / "000.json").unlink()
    (views / "4-steps" / "000.json").write_text("broken")
    assert main([str(config), "count=1", "--report"]) == 0
    videos = page_data(config)["videos"]["a red circle"]
    assert videos["exact"]["error"] == "the video is missing: not measured yet"
    assert "000.json cannot be read" in videos["4 steps"]["error"]
    assert videos["vanilla"]["frames"] == 48


def test_what_is_measured_is_not_measured_again(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "count=1"]) == 0
    results = config.parent / "results"
    (results / "cells" / "exact" / "000.json").write_text("broken")
    (results / "references" / "000.safetensors").write_bytes(b"broken")
    kept = (results / "cells" / "4-steps" / "000.json").read_bytes()
    capsys.readouterr()
    assert main([str(config), "count=1"]) == 0
    told = capsys.readouterr().out
    assert "vanilla 000" in told  # its video was lost
    assert "exact 000: 120.0 dB" in told
    assert "4-steps 000" not in told
    assert (results / "cells" / "4-steps" / "000.json").read_bytes() == kept
    assert main([str(config), "--report"]) == 0


def test_a_method_that_raises_leaves_its_reason_and_the_rest_goes_on(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(config.read_text())
    values["methods"]["too few steps"] = {"job": {"num_inference_steps": 3}}
    write(config.parent, values)

    def sampled(*arguments: Any) -> Any:
        if arguments[1].num_inference_steps == 4:
            raise RuntimeError("out of luck")
        return run(*arguments)

    run = magi_sample.run_pipeline
    monkeypatch.setattr(magi_sample, "run_pipeline", sampled)
    assert main([str(config), "count=1"]) == 1
    found = cells(config)
    assert "must be a multiple" in found["too-few-steps/000"]["error"]
    assert "out of luck" in found["4-steps/000"]["error"]
    assert "psnr_db" in found["teacache-0.1/000"]
    assert "`4 steps`, prompt 000: RuntimeError: out of luck" in capsys.readouterr().out
    monkeypatch.setattr(magi_sample, "run_pipeline", run)
    assert main([str(config), "count=1"]) == 1  # the other one still fails
    assert "psnr_db" in cells(config)["4-steps/000"]


def tuned_config(config: Path) -> Path:
    """The benchmark with two methods that are tuned, and one that cannot be: no such cache is known for the model."""
    methods = {"vanilla": {}, "exact": {"preset": "exact"}, "TeaCache": TUNED, "fewer steps": STEPS}
    methods["baseline"] = {"baseline": "dbcache", "tune": {"knob": "knobs.residual_diff_threshold"}}
    changes = {
        "budgets": [0.6, 0.001],
        "tuned": "tuned",
        "tuning_prompts": "tuning.txt",
        "compare": [],
        "methods": methods,
    }
    (config.parent / "tuning.txt").write_text("a green circle\n")
    return write(config.parent, yaml.safe_load(config.read_text()) | changes | {"count": 1})


def test_methods_are_tuned_to_a_budget_and_then_measured_at_it(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tuned_config(config)
    assert main([str(tuned)]) == 2
    assert "'TeaCache' has not been tuned for these settings: run with --tune first" in capsys.readouterr().err
    assert main([str(tuned), "--tune"]) == 0
    told = capsys.readouterr().out
    assert "TeaCache: " in told
    assert "baseline: " in told
    assert main([str(tuned), "--tune"]) == 0
    assert capsys.readouterr().out == ""  # nothing is tuned twice
    assert main([str(tuned)]) == 1  # the baseline's cell says what it raises
    found = cells(tuned)
    assert set(found) == {
        f"{name}/000" for name in ("vanilla", "exact", "teacache-at-0.6", "fewer-steps-at-0.6", "baseline")
    }
    reached = found["teacache-at-0.6/000"]["flops"] / found["exact/000"]["flops"]
    points = json.loads((tuned.parent / "tuned" / "teacache.json").read_text())["points"]
    assert abs(reached / 0.6 - 1) < 0.35  # as near as the steps of so short a schedule come
    assert found["teacache-at-0.6/000"]["policy"]["threshold"] in [point["value"] for point in points]
    assert found["fewer-steps-at-0.6/000"]["job"]["num_inference_steps"] in (4, 8)
    assert "error" in found["baseline/000"]
    table = (tuned.parent / "results" / "table.md").read_text()
    assert "| 0.6 of exact | 0.001 of exact |" in table
    assert re.search(r"\| fewer steps \| .* \| not reached \|", table)
    assert "`baseline`, prompt 000: " in table


def test_tuned_for_other_settings_is_not_tuned(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = tuned_config(config)
    assert main([str(tuned), "--tune"]) == 0
    values = yaml.safe_load(tuned.read_text())
    values["settings"]["num_frames"] = 24
    assert main([str(write(tuned.parent, values))]) == 2
    assert "has not been tuned for these settings" in capsys.readouterr().err
    (tuned.parent / "tuned" / "teacache.json").write_text("{")
    assert main([str(tuned), "--tune"]) == 2
    assert "teacache.json cannot be read" in capsys.readouterr().err


def test_a_method_that_is_known_to_raise_does_not_fail_the_run(config: Path) -> None:
    methods = {"vanilla": {}, "baseline": {"baseline": "first-block-cache", "may_fail": True}}
    write(config.parent, yaml.safe_load(config.read_text()) | {"methods": methods, "compare": [], "count": 1})
    assert main([str(config)]) == 0
    assert "error" in cells(config)["baseline/000"]
    methods["baseline"].pop("may_fail")
    write(config.parent, yaml.safe_load(config.read_text()) | {"methods": methods})
    assert main([str(config)]) == 1


def test_a_sweep_measures_every_value_in_a_folder_of_its_own(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = {"vanilla": {}, "TeaCache": {"policy": TEACACHE}}
    sweep = {"key": "num_inference_steps", "over": [8, 12]}
    write(config.parent, yaml.safe_load(config.read_text()) | {"methods": methods, "compare": [], "sweep": sweep})
    assert main([str(config)]) == 0
    results = config.parent / "results"
    found = {path.parts[-4]: json.loads(path.read_text()) for path in results.glob("*/cells/teacache/000.json")}
    assert {name: cell["job"]["num_inference_steps"] for name, cell in found.items()} == {
        "num_inference_steps-8": 8,
        "num_inference_steps-12": 12,
    }
    table = (results / "sweep.md").read_text()
    assert "|  | 8 | 12 |" in table
    assert f"| TeaCache | {found['num_inference_steps-8']['psnr_db']:.0f}"[:13] in table
    assert table in capsys.readouterr().out
    assert (results / "sweep.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "sora"}, "there is no model 'sora'; installed: helios, magi-1, skyreels-v2"),
        ({"prompts": "none.txt"}, "none.txt' cannot be read"),
        ({"job": "none.yaml"}, "there is no config file"),
        ({"repeats": 0}, "repeats: 0 is not allowed; allowed: 1 to 100"),
        ({"methods": {"slow": {"preset": "slow"}}}, "has to hold 'vanilla'"),
        ({"methods": {"vanilla": {"preset": "slow"}}}, "takes no settings"),
        ({"methods": {"vanilla": {}, "x": {"preset": "nope"}}}, "unknown preset 'nope'"),
        ({"methods": {"vanilla": {}, "x": {"policy": {"policy": "nope"}}}}, "methods.x.policy: 'nope' is not a policy"),
        ({"methods": {"vanilla": {}, "x": {"job": {"nope": 1}}}}, "methods.x.job: unknown key 'nope'"),
        ({"compare": [["exact", "nope"]]}, "compare: ['exact', 'nope'] has to be two of the methods: vanilla"),
        ({"methods": {"vanilla": {}, "x": {"nope": 1}}}, "methods.x: unknown key 'nope'"),
        ({"methods": {"vanilla": {}, "x": {"peer": "dbcache"}}}, "methods.x: unknown key 'peer'; known keys: baseline"),
        ({"methods": {"vanilla": {}, "x": {"knobs": {"a": 1}}}}, "methods.x.knobs: {'a': 1} is not allowed"),
        ({"methods": {"vanilla": {}, "x": STEPS}}, "methods.x.tune needs budgets"),
        ({"methods": {"vanilla": {}, "x": {"tune": {"knob": "threshold"}}}}, "x.tune.knob: 'threshold' is not allowed"),
        ({"budgets": [0.5]}, "tuned: '' is not allowed; allowed: a path, where there are budgets"),
        (
            {"budgets": [0.5], "tuned": "t", "tuning_prompts": "p", "budget_of": "x"},
            "budget_of: 'x' has to be a method",
        ),
        ({"sweep": {"key": "seed", "over": [1]}}, "sweep.over: [1] is not allowed; allowed: two values or more"),
        ({"sweep": {"key": "nope", "over": [1, 2]}}, "unknown key 'nope'"),
        (
            {"methods": {"vanilla": {}, "x": {"preset": "exact", "count": 0}}},
            "count: 0 is not allowed; allowed: null, or",
        ),
        (
            {"methods": {"vanilla": {}, "x": {"preset": "slow", "policy": TEACACHE}}},
            "one of preset, policy and baseline",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    change: dict[str, Any], says: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(config.parent, yaml.safe_load(config.read_text()) | {"compare": []} | change)
    assert main([str(config)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (config.parent / "results").exists()


def test_results_of_other_settings_are_not_mixed_in(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "count=1"]) == 0
    before = cells(config)
    values = yaml.safe_load(config.read_text())
    values["methods"]["TeaCache 0.1"]["policy"]["threshold"] = 0.2
    write(config.parent, values)
    assert main([str(config), "count=1"]) == 2
    assert "was made with other settings; delete" in capsys.readouterr().err
    assert cells(config) == before


def test_a_calibration_that_depends_on_the_videos_before_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(config.read_text())
    for policy in ({"policy": "forecast", "calibration": "auto"}, {"policy": "forecast"}):
        values |= {"methods": {"vanilla": {}, "Forecast": {"policy": policy}}, "compare": []}
        write(config.parent, values)
        assert main([str(config), "count=1"]) == 2
        assert "methods.Forecast: without a calibration of this model" in capsys.readouterr().err


def test_other_weights_are_another_model(config: Path, distilled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "count=1"]) == 0
    other = config.parent / distilled.name
    shutil.copytree(distilled, other)
    path = next(other.glob("ckpt/magi/*/inference_weight.distill/*.safetensors"))
    weights = load_file(path)
    weights["x_embedder.weight"] = weights["x_embedder.weight"] + 0.1
    save_file(weights, path)
    values = yaml.safe_load(config.read_text())
    values["settings"]["model"] = str(other)
    write(config.parent, values)
    assert main([str(config), "count=1"]) == 2
    assert "was made with other settings" in capsys.readouterr().err


def test_a_report_needs_results(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "--report"]) == 2
    assert "holds no results" in capsys.readouterr().err
