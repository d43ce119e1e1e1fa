"""The command `motioncache`: help, texts to the letter, models by name, restarts and interrupts."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval import cli
from motioncache_eval.bench.config import BenchConfig, MethodConfig, SweepConfig, TuneConfig
from motioncache_eval.cli import COMMANDS, main
from motioncache_eval.cli.keys import describe_keys, meanings
from motioncache_eval.demo import DemoConfig
from motioncache_eval.generate import GenerateConfig, list_videos, names_of
from motioncache_eval.jobs import installed_models
from motioncache_eval.vbench.config import VBenchConfig
from motioncache_eval.video import read_video
from motioncache_magi.job.config import MagiJobConfig
from motioncache_magi.job.model import MagiJobs
from motioncache_skyreels.job.config import JobConfig
from motioncache_skyreels.job.model import SkyReelsJobs

ROOT = Path(__file__).parents[2]
SCHEMAS = (
    JobConfig, MagiJobConfig, VBenchConfig, BenchConfig, MethodConfig, TuneConfig, SweepConfig, DemoConfig,
    GenerateConfig,
)  # fmt: skip
SHORT = ["height=16", "width=32", "num_frames=37", "base_num_frames=37", "num_inference_steps=6", "ar_step=2"]

PIXELS = "pixels, multiples of 16. These and the other numbers have the limits of `motioncache.limits`."


def generate(*overrides: str) -> int:
    return main(["generate", "model=skyreels-v2", "preset=exact", *SHORT, *overrides])


@pytest.mark.parametrize("arguments", [[], ["-h"], *([name, flag] for name in COMMANDS for flag in ("-h", "--help"))])
def test_help_is_printed_and_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == (0 if arguments else 2)
    printed = capsys.readouterr()
    text = printed.out if arguments else printed.err
    assert text.startswith("usage: ")
    assert all(name in text for name in (COMMANDS if len(arguments) < 2 else arguments[:1]))


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["demo"], [DemoConfig, JobConfig]),
        (["demo", "model=magi-1"], [DemoConfig, MagiJobConfig]),
        (["generate"], [GenerateConfig, JobConfig]),
        (["bench"], [BenchConfig, MethodConfig, TuneConfig, SweepConfig]),
        (["calibrate"], [JobConfig, MagiJobConfig]),
        (["vbench"], [VBenchConfig, JobConfig]),
        (["vbench", "magi-1"], [VBenchConfig, MagiJobConfig]),
    ],
)
def test_help_lists_every_key_with_its_default(
    arguments: list[str], keys: list[type], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-h"]) == 0
    shown = capsys.readouterr().out
    for schema in keys:
        for field in fields(schema):  # pyright: ignore[reportArgumentType]
            assert f"\n  {field.name}=" in shown, field.name


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_key_has_a_meaning(schema: Any) -> None:
    explained = meanings(schema)
    assert {field.name for field in fields(schema)} == set(explained)
    assert all(len(text.split()) >= 2 for text in explained.values())


def test_a_meaning_may_have_several_lines_and_several_keys() -> None:
    explained = meanings(JobConfig)
    assert explained["height"] == explained["width"] == PIXELS
    assert explained["target_speedup"].endswith("of the policy `forecast`; null takes the preset's.")
    described = describe_keys(JobConfig, {"seed": 7})
    assert "  seed=7  (whole number)\n" in described
    assert "  overlap_history=null  (whole number, or null)\n" in described


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demos"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no command 'demos'; commands: demo, generate, bench")


def test_an_interrupt_while_packages_are_imported_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_entry_point_imports_nothing_heavy() -> None:
    code = "import sys, motioncache_eval.cli; assert not {'torch', 'numpy', 'omegaconf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


TEXTS = ["a ${b} in a box", "???", "C:\\new\\table", "null", "12", "[a, b]", "a: b # c", "über ${oc.env:HOME}"]


def test_texts_are_taken_to_the_letter(tmp_path: Path) -> None:
    """From a process's arguments to the files."""
    for index, text in enumerate(TEXTS):
        folder = tmp_path / f"${{x}} {index}"
        arguments = [f"prompt={text}", f"negative_prompt={text}", f"output={folder}"]
        if index == 0:
            command = [sys.executable, "-m", "motioncache_eval", "generate", "model=skyreels-v2", "preset=exact"]
            subprocess.run([*command, *SHORT, *arguments], check=True, cwd=tmp_path, env={**os.environ})
        else:
            assert generate(*arguments) == 0
        (report,) = (path for path in folder.glob("*.json") if path.name != "settings.json")
        config = json.loads(report.read_text())["config"]
        assert (config["prompt"], config["negative_prompt"]) == (text, text)


def test_a_run_makes_what_is_missing_and_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("A red circle\na red circle!\n圆\n")
    folder = tmp_path / "videos"
    arguments = [f"prompts={prompts}", f"output={folder}"]
    assert generate(*arguments) == 0
    names = {path.stem for path in folder.glob("*.mp4")}
    assert {"a-red-circle", "圆"} < names
    assert len(names) == 3
    report = json.loads((folder / "a-red-circle.json").read_text())
    assert report["prompt"] == "A red circle"
    assert report["flops"] < report["vanilla_flops"]
    assert report["seconds"] > 0
    assert report["summary"]["computed_share"] == 1
    assert report["policy"] == {"name": "NoCacheConfig", "kv": "model", "split_guidance": False}
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "圆.mp4").unlink()
    capsys.readouterr()
    assert generate(*arguments) == 0
    assert "3 videos, 1 to make" in capsys.readouterr().out
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"圆.mp4", "圆.json"}
    assert read_video(folder / "圆.mp4").shape == (37, 16, 32, 3)


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"output={tmp_path / 'videos'}"
    assert generate("prompt=a red circle", output) == 0
    for other, said in (("seed=3", "seed was 0, now 3"), ("preset=slow", "name was 'NoCacheConfig'")):
        assert generate("prompt=a blue circle", output, other) == 2
        assert said in capsys.readouterr().err
    assert generate("prompt=a red circle?", output) == 2
    assert "was not made from the prompt 'a red circle?'" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "videos").glob("*.mp4")] == ["a-red-circle.mp4"]


def test_files_are_named_as_the_user_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts").write_text("a red circle\na blue circle\n")
    (tmp_path / "names").write_text("One\ntwo\n")
    arguments = [f"prompts={tmp_path / 'prompts'}", f"output={tmp_path / 'out'}", f"names={tmp_path / 'names'}"]
    assert generate(*arguments) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.mp4")} == {"One.mp4", "two.mp4"}
    for names, said in {
        "one": "there are 1 names for 2 prompts",
        "one\nONE": "names: 'one' occurs twice, as number 1 and 2",
        "a/b\nc": "names: 'a/b' cannot be the name of a file",
        "..\nc": "names: '..' cannot be the name of a file",
        "settings\nc": "names: 'settings' is the name of the file of settings",
    }.items():
        (tmp_path / "names").write_text(names)
        assert generate(*arguments) == 2
        assert said in capsys.readouterr().err
    assert generate(*arguments[:2], "prompt=x") == 2
    assert "prompt and prompts are both given" in capsys.readouterr().err


def test_names_of_prompts_are_short_and_differ() -> None:
    prompts = ["A cat, on the grass.", "a cat on the grass", "?!", "settings", "word " * 100, "ü" * 300]
    names = names_of(prompts)
    assert names[0] == "a-cat-on-the-grass"
    assert len({name.casefold() for name in names}) == len(prompts)
    assert all(len(name.encode()) < 100 for name in names)
    assert [video.name for video in list_videos(prompts, None)] == names


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError()])
def test_an_interrupted_run_says_what_is_complete_and_goes_on(
    failure: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from motioncache_skyreels.job import sample

    whole: Callable[..., Any] = sample._call

    def fail_at_blue(pipeline: Any, job: Any, *rest: Any) -> Any:
        if "blue" in job.prompt:
            raise failure
        return whole(pipeline, job, *rest)

    (tmp_path / "prompts").write_text("a red circle\na blue circle\n")
    arguments = [f"prompts={tmp_path / 'prompts'}", f"output={tmp_path / 'out'}"]
    monkeypatch.setattr(sample, "_call", fail_at_blue)
    interrupted = isinstance(failure, KeyboardInterrupt)
    assert generate(*arguments) == (130 if interrupted else 2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("interrupted; " if interrupted else "error: cpu has too little memory")
    assert "1 of 2 videos were made" in last
    names = {"a-red-circle.mp4", "a-red-circle.json", "settings.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    monkeypatch.setattr(sample, "_call", whole)
    assert generate(*arguments) == 0
    assert (tmp_path / "out" / "a-blue-circle.mp4").is_file()


def test_settings_of_a_run_that_made_nothing_bind_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"output={tmp_path / 'out'}"
    assert generate("prompt=a red circle", output, "num_frames=41", "base_num_frames=41") == 2
    assert "does not divide" in capsys.readouterr().err
    assert generate("prompt=a red circle", output) == 0


class ThirdModel(SkyReelsJobs):
    """A model of another package: registered, and known to nothing of the command line."""

    config = Path("none.yaml")
    takes = "the word third"

    def recognises(self, model: str) -> bool:
        return model.endswith("third")

    def read(self, config: Path | None, overrides: Any) -> JobConfig:
        shipped = SkyReelsJobs.config.parents[1] / "MotionCache4SkyReels-V2" / "motioncache-tiny"
        return super().read(config, [*overrides, f"model={shipped}"])


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"third": ThirdModel, "skyreels-v2": SkyReelsJobs, "magi-1": MagiJobs}
    registered = [
        EntryPoint(name=name, value=f"{cls.__module__}:{cls.__qualname__}", group="motioncache.jobs")
        for name, cls in points.items()
    ]
    monkeypatch.setattr("motioncache_eval.jobs.entry_points", lambda group: registered)
    monkeypatch.setitem(sys.modules, ThirdModel.__module__, sys.modules[__name__])


@pytest.mark.usefixtures("third")
def test_a_third_model_needs_no_change_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(installed_models()) == ["magi-1", "skyreels-v2", "third"]
    output = f"output={tmp_path}"
    assert main(["generate", "model=my/third", "preset=exact", "prompt=a red circle", *SHORT, output]) == 0
    assert (tmp_path / "a-red-circle.mp4").is_file()
    assert main(["presets", "third"]) == 0
    assert "third: " in capsys.readouterr().out
    assert main(["parity", "third", "folder"]) == 2
    assert "the golden checks of third are part of the repository" in capsys.readouterr().err
    assert main(["demo", "model=third"]) == 2  # its package ships no small model
    assert "is part of the repository and not of the installed package: pass model= with the word third" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("skyreels-v2", SkyReelsJobs),
        ("magi-1", MagiJobs),
        (str(ROOT / "MotionCache4SkyReels-V2" / "motioncache-tiny"), SkyReelsJobs),
        (str(ROOT / "MotionCache4MAGI-1" / "motioncache-tiny"), MagiJobs),
        ("Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers", SkyReelsJobs),
    ],
)
def test_a_name_a_folder_or_a_hub_id_chooses_the_model(model: str, expected: type) -> None:
    from motioncache_eval.jobs import recognise_model

    assert type(recognise_model(model)) is expected


def test_a_target_alone_chooses_forecast() -> None:
    from motioncache_eval.cli.options import choose

    assert choose(["target_speedup=3"]).job(DemoConfig).preset is None
    assert choose(["target_speedup=3", "preset=forecast"]).job(DemoConfig).preset == "forecast"
    assert choose([]).job(DemoConfig).preset == "slow"


def test_an_installed_wheel_has_help_without_a_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("motioncache_eval.cli.options.DEFAULT_CONFIG", Path("none.yaml"))
    assert main(["generate", "-h"]) == 0
    shown = capsys.readouterr().out
    assert "Keys of a job of magi-1:\n" in shown
    assert "Keys of a job of skyreels-v2:\n" in shown
    assert main(["generate"]) == 2
    assert "no model is named: pass model= with one of" in capsys.readouterr().err


def test_presets_are_listed_with_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    shown = capsys.readouterr().out
    for folder in ("MotionCache4SkyReels-V2", "MotionCache4MAGI-1"):
        assert str(ROOT / folder / "addconfig" / "config.yaml") in shown
    assert shown.count("\n* slow") == len(installed_models())
    assert main(["presets", "magi-1", "none"]) == 2
    assert "there is no model 'none'; installed: helios, magi-1, skyreels-v2" in capsys.readouterr().err


def test_doctor_shows_the_machine_and_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "PyAV: encodes H.264" in shown
    assert str(ROOT / "common" / "motioncache") in shown
    row = next(line for line in shown.splitlines() if line.startswith("SkyReels-V2 14B-540P, 544x960, 97 frames"))
    assert row.split()[5:] == ["77.8", "123.8", "-", "-", "-", "-", "-", "yes"]


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m motioncache_eval demo -h | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode in (0, 141)
    assert done.stderr == ""
