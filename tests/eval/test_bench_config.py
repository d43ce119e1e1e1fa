"""What a benchmark's YAML and its overrides stand for, and what is refused before any model is loaded."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from motioncache.errors import ConfigError
from motioncache_eval.bench.__main__ import main
from motioncache_eval.bench.benchmark import Benchmark, load_sweep
from motioncache_eval.bench.config import BenchConfig, MethodConfig, SweepConfig, TuneConfig

METHODS: dict[str, Any] = {
    "vanilla": {},
    "slow": {"preset": "slow"},
    "TeaCache 0.1": {"policy": {"policy": "teacache", "threshold": 0.1}},
    "TeaCache 0": {"job": {"ar_step": 0}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n", encoding="utf-8")
    return tmp_path


def write(folder: Path, **changes: Any) -> Path:
    values = {"model": "skyreels-v2", "prompts": "prompts.txt", "methods": METHODS, **changes}
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def read(folder: Path, *overrides: str, **changes: Any) -> Benchmark:
    return load_sweep(write(folder, **changes), overrides).benchmarks[""]


def refusal(folder: Path, *overrides: str, **changes: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        load_sweep(write(folder, **changes), overrides)
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    return message


def test_three_keys_are_enough(folder: Path) -> None:
    benchmark = read(folder)
    assert benchmark.config.output == "outputs/bench-bench"  # of the working directory, by the name of the file
    assert benchmark.config.job == ""  # the loader takes its own demo
    assert benchmark.job_overrides == ["prompt=a red circle"]


def test_paths_in_the_file_start_there_and_those_of_overrides_at_the_working_directory(folder: Path) -> None:
    assert read(folder, output="results").config.output == str(folder / "results")
    assert read(folder, "output=results").config.output == "results"


def test_overrides_reach_every_section(folder: Path) -> None:
    benchmark = read(
        folder,
        *("count=1", "settings.num_frames=57", "settings.negative_prompt=${oc.env:HOME}: 5", "methods.slow.preset=5"),
        *("methods.TeaCache 0.1.policy.threshold=0.2", "methods.TeaCache 0.job.ar_step=2", "methods.slow.count=1"),
        *("methods.TeaCache 0.1.tune.knob=policy.threshold", "methods.slow.family=null", "budgets=[0.5]", "tuned=t"),
        *("tuning_prompts=p", "budget_of=slow"),
    )
    assert benchmark.prompts == ("a red circle",)
    assert benchmark.job_overrides == [
        "num_frames=57",
        "negative_prompt=${oc.env:HOME}: 5",  # to the letter
        "prompt=a red circle",
    ]
    assert benchmark.methods["slow"] == MethodConfig(preset="5", count=1)  # a text stays one
    assert benchmark.methods["TeaCache 0.1"].policy == {"policy": "teacache", "threshold": 0.2}
    assert benchmark.methods["TeaCache 0.1"].tune == {"knob": "policy.threshold"}
    assert benchmark.methods["TeaCache 0"].job == {"ar_step": 2}
    assert benchmark.methods["vanilla"] == MethodConfig()


def test_an_override_replaces_a_value_of_the_file_and_leaves_its_neighbours(folder: Path) -> None:
    settings = {"num_frames": 97, "seed": 3}
    assert read(folder, "settings.num_frames=57", settings=settings).job_overrides[:2] == ["num_frames=57", "seed=3"]
    sweep = load_sweep(write(folder, sweep={"key": "seed", "over": [1, 2]}), ["sweep.over=[3, 4, 5]"])
    assert list(sweep.benchmarks) == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("nope=1", "unknown key 'nope'; known keys: model, job, settings, prompts, count, "),
        ("settings=5", "5 has the wrong type"),
        ("settings.=5", "unknown key 'settings.'"),
        ("settings.a.b=5", "names of settings of the demo"),
        ("settings.prompt=a", "the prompts are in prompts:"),
        (
            "methods.fast.preset=slow",
            "'methods.fast.preset'; known keys: methods.vanilla.KEY, methods.slow.KEY",
        ),
        ("methods.slow.nope=1", "known keys: methods.slow.preset, methods.slow.policy, "),
        ("methods.slow.preset.a=1", "unknown key 'methods.slow.preset.a'"),
        ("methods.slow=1", "unknown key 'methods.slow'"),
        ("methods.slow.tune.nope=1", "methods.slow.tune.knob"),
        ("methods.slow.policy.threshold=1", "one of preset, policy and baseline"),
        ("methods=1", "unknown key 'methods'"),
        ("sweep.nope=1", "sweep.key, sweep.over"),
        ("count", "'count' is not an override: write key=value"),
        ("=1", "'=1' is not an override"),
        ("count=[", "'count=[' cannot be read"),
        ("count=3", "count: 3, but "),
        ("count=many", "count: 'many' has the wrong type"),
        ("repeats=1000000", "repeats: 1000000 is not allowed; allowed: 1 to 100"),
        ("shown=1000000", "shown: 1000000 is not allowed; allowed: 0 to 100"),
        (f"budgets={[0.5] * 101}", "allowed: at most 100"),
        ("settings.num_frames=1e999", ""),
        (f"output={'a' * 300}", "output: 'aaaa"),
        (f"output={'a/' * 3000}", "allowed: a path of at most 4000 bytes"),
        ("output= ", "output: ' ' is not allowed"),
        ("prompts=a\nb", "prompts: 'a\\nb' is not allowed"),
    ],
)
def test_an_override_that_is_wrong_is_one_line(folder: Path, override: str, says: str) -> None:
    if not says:
        assert read(folder, override)  # the demo refuses it: what its settings are is not known yet
    else:
        assert says in refusal(folder, override)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["猫"], "methods: '猫' is not allowed; allowed: a name of letters from a to z or digits"),
        (["猫", "犬"], "methods: '猫' is not allowed"),
        ([".."], "methods: '..' is not allowed"),
        (["..."], "methods: '...' is not allowed"),
        (["-"], "methods: '-' is not allowed"),
        (["a\nb"], "methods: 'a\\nb' is not allowed"),
        (["a" * 151], "at most 150"),
        (["a b", "a-b"], "methods: 'a-b' and 'a b' have the same folder, a-b: rename one of them"),
        (["Fast", "fast!"], "methods: 'fast!' and 'Fast' have the same folder, fast"),
        (["Vanilla"], "methods: 'Vanilla' and 'vanilla' have the same folder, vanilla"),
        ([4], "methods: 4 is no text: write the name of a method in quotes"),
        ([True], "methods: True is no text"),
    ],
)
def test_a_method_without_a_folder_of_its_own_is_refused(folder: Path, names: list[Any], says: str) -> None:
    assert says in refusal(folder, methods={"vanilla": {}} | {name: {"preset": "exact"} for name in names})


def test_budgets_do_not_give_two_methods_one_folder(folder: Path) -> None:
    tuned = {"policy": {"policy": "teacache"}, "tune": {"knob": "policy.threshold"}}
    budgets = {"tuned": "t", "tuning_prompts": "p", "budget_of": "slow"}
    methods = {"vanilla": {}, "slow": {"preset": "slow"}, "tea": tuned}
    assert read(folder, methods=methods, budgets=[0.5, 0.25], **budgets)
    says = refusal(folder, methods=methods, budgets=[0.5, 0.50000001], **budgets)
    assert "'tea at 0.5' and 'tea at 0.5' have the same folder" in says
    says = refusal(folder, methods={**methods, "tea at 0.5": {}}, budgets=[0.5], **budgets)
    assert "have the same folder, tea-at-0.5" in says


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": {"vanilla": 5}}, "methods.vanilla: 5 has the wrong type; allowed: keys and values"),
        ({"methods": {"vanilla": 0}}, "methods.vanilla: 0 has the wrong type"),
        ({"methods": ["vanilla"]}, "methods: has to hold 'vanilla'"),
        ({"methods": {"vanilla": {}, "x": {"policy": [1]}}}, "methods.x.policy: [1] has the wrong type"),
        ({"methods": {"vanilla": {}, "x": {"job": {1: 2}}}}, "job: 1 is not allowed; allowed: keys that are texts"),
        ({"methods": {"vanilla": {}, "x": {"job": {"a": float("inf")}}}}, "job.a: inf is out of range"),
        ({"methods": {"vanilla": {}, "x": {"family": " "}}}, "family: ' ' is not allowed"),
        ({"compare": [["vanilla", ["a"]]]}, "compare: "),
        ({"compare": [["slow", "slow"]]}, "compare: ['slow', 'slow'] has to be two of the methods"),
        ({"compare": "slow"}, "compare: 'slow' has the wrong type"),
        ({"budgets": ["a"]}, "budgets: ['a'] has the wrong type"),
        ({"budgets": [float("nan")]}, "budgets: "),
        ({"sweep": 5}, "sweep: 5 has the wrong type"),
        ({"sweep": {"key": "seed", "over": 5}}, "sweep.over: 5 has the wrong type"),
        ({"sweep": {"key": "seed", "over": [1, "1"]}}, "sweep.over: '1' and '1' have the same folder, 1"),
        ({"sweep": {"key": "model", "over": ["a/b", "c"]}}, "sweep.over: 'a/b' is not allowed"),
        ({"sweep": {"key": "model", "over": ["..", "c"]}}, "sweep.over: '..' is not allowed"),
        ({"sweep": {"key": "seed", "over": [[1], 2]}}, "sweep.over: (1,) is not allowed"),
        ({"sweep": {"key": "seed", "over": list(range(101))}}, "allowed: at most 100 values"),
        ({"sweep": {"key": "prompts", "over": ["a/x.txt", "b/x.txt"]}}, "'x' and 'x' have the same folder, x"),
        ({"sweep": {"key": "prompts", "over": [1, 2]}}, "sweep.over: 1 is not allowed"),
        ({"sweep": {"key": "prompt", "over": ["a", "b"]}}, "key: 'prompt' is not allowed"),
        ({"sweep": {"key": "../x", "over": [1, 2]}}, "key: '../x' is not allowed"),
        (
            {"sweep": {"key": "seed", "over": [1, 2]}, "settings": {"seed": 1}},
            "seed: 1 does nothing, as the sweep sets it",
        ),
        ({"settings": {"a=b": 1}}, "settings: 'a=b' is not allowed"),
        ({"settings": []}, "settings: [] has the wrong type"),
        ({"output": 5}, "output: 5 has the wrong type"),
        ({"output": []}, "output: [] has the wrong type"),
        ({"prompts": "."}, "cannot be read"),
        ({"prompts": "none.txt"}, "none.txt' cannot be read"),
        ({"prompts": "latin.txt"}, "latin.txt cannot be read"),
        ({"prompts": "twice.txt"}, "twice.txt has the prompt 'a' 2 times"),
        ({"prompts": None}, "prompts"),
        ({"count": 0}, "count: 0 is not allowed"),
        ({"count": 10**400}, "count: "),
        ({"methods": {"vanilla": {}, "x": {"tune": {"knob": "job.seed", "high": 1e9}}}}, "high: 1000000000.0 is not"),
    ],
)
def test_a_benchmark_that_is_wrong_is_one_line(folder: Path, change: dict[str, Any], says: str) -> None:
    (folder / "latin.txt").write_bytes("un café\n".encode("latin-1"))
    (folder / "twice.txt").write_text("a\nb\na\n")
    assert says in refusal(folder, **change)


def test_an_interpolation_is_taken_to_the_letter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "told")
    benchmark = read(folder, settings={"negative_prompt": "${oc.env:SECRET}"}, output="${oc.env:SECRET}")
    assert benchmark.job_overrides[0] == "negative_prompt=${oc.env:SECRET}"
    assert benchmark.config.output.endswith("/${oc.env:SECRET}")


def test_the_usage_is_printed_and_every_key_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["-h"])
    assert left.value.code == 0
    assert "--check" in capsys.readouterr().out
    for schema in (BenchConfig, MethodConfig, TuneConfig, SweepConfig):
        documented = (schema.__doc__ or "").partition("Args:")[2]
        for field in fields(schema):
            assert f"\n        {field.name}: " in documented, (schema, field.name)


def test_texts_of_settings_that_look_like_json_stay_texts(folder: Path) -> None:
    overrides = read(folder, settings={"seed": 5, "fps": None, "device": "cpu", "cpu_offload": False}).job_overrides
    assert overrides[:4] == ["seed=5", "fps=null", "device=cpu", "cpu_offload=false"]
    assert json.loads(overrides[1].partition("=")[2]) is None
