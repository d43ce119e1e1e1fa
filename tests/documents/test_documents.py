"""What the documents tell a reader to run is run, or parsed to the letter where running it takes long."""

import ast
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from motioncache.presets import parse_policy

from .blocks import NEEDS, PAGES, ROOT, Block, read_blocks, read_commands, read_inline_commands
from .commands import OTHER_SCRIPTS, SCRIPTS, Checker, find_module

pytest.importorskip("motioncache_eval.cli")

SKYREELS = ROOT / "MotionCache4SkyReels-V2" / "motioncache-tiny"
MAGI = ROOT / "MotionCache4MAGI-1" / "motioncache-tiny"

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
BASH = [block for block in BLOCKS if block.language == "bash"]

STALE = ("paper-slow", "paper-fast", "turbo", "main job", "motioncache_eval.calibrate", "motioncache_skyreels.job")


def where(thing: Any) -> str:
    return thing.where if isinstance(thing, Block) else str(thing.relative_to(ROOT))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's working directory: the repository without its results, and what the documents say a reader has."""
    for name in ("MotionCache4SkyReels-V2", "MotionCache4MAGI-1"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "addconfig", tmp_path / "addconfig")
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("results"))
    (tmp_path / "MAGI-1").symlink_to(MAGI)
    (tmp_path / "prompts.txt").write_text("a cat walks on the grass\n")
    (tmp_path / "mine.yaml").write_text("policy: forecast\ntarget_speedup: 3\n")
    (tmp_path / "path" / "to").mkdir(parents=True)
    info = [{"prompt_en": "a cat", "dimension": ["subject_consistency"]}]
    (tmp_path / "path" / "to" / "VBench_full_info.json").write_text(json.dumps(info))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_is_of_a_known_kind() -> None:
    assert {block.language for block in BLOCKS} <= {"bash", "python", "yaml", "text", "{eval-rst}", ""}
    marked = [block for block in BLOCKS if block.needs is not None]
    assert [block.where for block in marked if not set(block.needs.split(", ")) <= set(NEEDS)] == []
    assert len(BASH) >= 15


@pytest.mark.parametrize("block", BASH, ids=where)
def test_the_commands_of_a_block_work(block: Block, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checker = Checker(monkeypatch)
    for command in read_commands(block):
        words = tuple(word.replace("=/path/", f"={reader}/path/") for word in command.words)
        checker.check(type(command)(where=command.where, words=words, needs=command.needs))


@pytest.mark.parametrize("page", PAGES, ids=where)
def test_commands_within_sentences_name_what_exists(page: Path) -> None:
    from motioncache_eval.cli import COMMANDS

    for command in read_inline_commands(page):
        program, first, *rest = command.words
        if program == "motioncache":
            assert first in (*COMMANDS, "COMMAND", "-h"), command
        elif program == "bash":
            assert first in (*SCRIPTS, *OTHER_SCRIPTS), command
        elif program == "python" and first == "-m":
            assert callable(find_module(rest[0]).main), command
        elif program == "python":
            assert (ROOT / first).is_file(), command
        else:
            Checker(pytest.MonkeyPatch()).check(command)
        for word in rest:
            assert not word.startswith(("benchmarks/", "examples/", "MotionCache4")) or (ROOT / word).exists(), command


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()], ids=where)
def test_the_python_of_a_page_runs_on_the_small_models(page: Path, reader: Path, small_models: None) -> None:
    from diffusers import SkyReelsV2DiffusionForcingPipeline

    names: dict[str, Any] = {
        "prompt": "a red circle moving right quickly over a teal background",
        "pipe": SkyReelsV2DiffusionForcingPipeline.from_pretrained(""),
    }
    for block in read_blocks(page):
        if block.language == "python":
            tree = ast.parse(block.text, filename=block.where)
            if block.needs is None:
                exec(compile(tree, block.where, "exec"), names)


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Official checkpoints are the small models, and calls take small sizes."""
    from diffusers import SkyReelsV2DiffusionForcingPipeline

    from motioncache_magi.pipeline import MagiPipeline

    small = {"height": 32, "width": 48, "num_inference_steps": 8}
    one_window = {"num_frames": 37, "base_num_frames": 37}
    replace_model(monkeypatch, SkyReelsV2DiffusionForcingPipeline, SKYREELS, {}, small | one_window)
    replace_model(monkeypatch, MagiPipeline, MAGI, {"variant": "distilled"}, small | {"num_frames": 48}, "stream")


def replace_model(
    monkeypatch: pytest.MonkeyPatch, cls: Any, folder: Path, options: dict[str, Any], size: dict[str, Any], *calls: str
) -> None:
    load = cls.from_pretrained
    monkeypatch.setattr(cls, "from_pretrained", lambda *_, **__: load(folder, **options))
    for name in ("__call__", *calls):
        call = getattr(cls, name)
        sized = functools.wraps(call)(lambda self, *args, call=call, **kwargs: call(self, *args, **{**kwargs, **size}))
        monkeypatch.setattr(cls, name, sized)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=where)
def test_a_policy_in_yaml_is_one(block: Block) -> None:
    assert parse_policy(yaml.safe_load(block.text), where=block.where)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "commands.md"], ids=where)
def test_no_page_has_a_name_that_is_gone(page: Path) -> None:
    text = page.read_text()
    assert [name for name in STALE if name in text] == []


def test_the_page_of_commands_is_what_the_commands_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from write_commands import PAGE, write_page

    # Versions of Python wrap a usage at other places.
    assert PAGE.read_text().split() == write_page().split(), "run python docs/write_commands.py"


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        ("ffmpeg -i video.mp4", None),
        ("bash scripts/gone.sh", None),
        ("motioncache gone", None),
        ("motioncache demo gone=1", "GPU"),
        ("motioncache demo preset=turbo", "GPU"),
        ("motioncache demo model=nowhere", "GPU"),
        ("motioncache bench benchmarks/gone.yaml", "hours"),
        ("motioncache bench benchmarks/skyreels.yaml gone=1", "hours"),
        ("motioncache bench benchmarks/skyreels.yaml", None),
        ("motioncache calibrate skyreels-v2 addconfig/config.yaml", "hours"),
        ("motioncache vbench short_prompts=gone.txt", None),
        ("python -m motioncache_skyreels.gone", "hours"),
        ("python -m motioncache_skyreels.train vae --gone 1", "hours"),
        ("python -m motioncache_skyreels.record MODEL --prompts gone.txt --output FOLDER", "minutes"),
        ("python benchmarks/gone.py", "hours"),
        ("pip install '.[gone]'", None),
        ("pip install torch==1.0", None),
        ("make gone", None),
    ],
)
def test_a_stale_command_is_found(line: str, needs: str | None, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = read_commands(Block(where="a page", language="bash", text=line, needs=needs))
    with pytest.raises((AssertionError, pytest.fail.Exception, SystemExit)):
        Checker(monkeypatch).check(command)
