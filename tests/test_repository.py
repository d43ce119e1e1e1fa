"""Promises of the repository itself."""

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import cast

import pytest
import yaml

from motioncache import ForecastConfig, MotionCacheConfig
from motioncache.config import PolicyConfig, structured
from motioncache.polynomials import Polynomial
from motioncache.presets import parse_policy
from motioncache_eval.jobs import installed_models
from motioncache_eval.vbench.config import load_vbench
from motioncache_magi.cache.adapter import POLICIES
from motioncache_magi.cache.config import Output
from motioncache_magi.cache.motioncache import MagiMotionCacheConfig
from motioncache_skyreels.job.config import JobConfig, load_job

ROOT = Path(__file__).parents[1]
SKYREELS = ROOT / "MotionCache4SkyReels-V2"
MAGI = ROOT / "MotionCache4MAGI-1"
HELIOS = ROOT / "MotionCache4Helios"


@pytest.mark.parametrize("folder", [ROOT / "common", SKYREELS, MAGI, HELIOS])
def test_only_our_packages_lie_in_a_source_root(folder: Path) -> None:
    # An editable install puts the root on sys.path: any other folder there could shadow somebody's package.
    allowed = {"addconfig", "scripts", "__pycache__"}
    importable = {path.name for path in folder.iterdir() if path.is_dir() and path.name.isidentifier()}
    modules = {path.name for path in folder.glob("*.py")}
    assert all(name.startswith("motioncache") for name in importable - allowed)
    assert modules == set()


def test_every_preset_of_magi_loads_and_slow_is_the_published_configuration() -> None:
    presets = yaml.safe_load((MAGI / "addconfig" / "config.yaml").read_text())["presets"]
    others = {f"{method}-{tier}" for method in ("flowcache", "teacache") for tier in ("slow", "fast")}
    assert set(presets) == {"exact", "forecast", "slow", "fast", *others}
    parsed = {name: parse_policy(values, where=name, policies=POLICIES) for name, values in presets.items()}
    # The defaults are the published ones; reused tokens keep their velocity, which is measured to be closer.
    assert parsed["slow"] == MagiMotionCacheConfig(output=Output.velocity)


@pytest.mark.parametrize("model", [SKYREELS, HELIOS], ids=["SkyReels-V2", "Helios"])
def test_every_preset_loads(model: Path) -> None:
    presets = yaml.safe_load((model / "addconfig" / "config.yaml").read_text())
    assert set(presets["presets"]) >= {"exact", "slow", "fast", "forecast"}
    assert presets["preset"] in presets["presets"]
    for name, values in presets["presets"].items():
        parse_policy(values, where=name)
    for row in presets["polynomials"]:
        assert structured(Polynomial, row, where="row").coefficients


def test_the_slow_preset_is_the_published_configuration() -> None:
    values = yaml.safe_load((SKYREELS / "addconfig" / "config.yaml").read_text())["presets"]["slow"]
    config = parse_policy(values, where="slow")
    assert isinstance(config, MotionCacheConfig)
    published = (4, 6, 0.1, 0.6, 0.5, 0.4)
    assert published == (
        config.warmup,
        config.chunk_phase_updates,
        config.threshold,
        config.floor,
        config.temporal_vote,
        config.minimum_update_ratio,
    )


def test_the_demo_and_the_vbench_section_load() -> None:
    assert isinstance(load_job(ROOT / "addconfig" / "config.yaml", []), JobConfig)
    for model in installed_models().values():
        settings, job = load_vbench(
            model, model.adapter().presets(), ["presets=[vanilla,fast]", "samples_per_prompt=5"]
        )
        assert (settings.samples_per_prompt, settings.presets) == (5, ("vanilla", "fast"))
        assert isinstance(job, model.schema)


@pytest.mark.parametrize(
    ("page", "config"),
    [
        (SKYREELS / "README.md", MotionCacheConfig),
        (MAGI / "README.md", MagiMotionCacheConfig),
        (ROOT / "docs" / "method.md", ForecastConfig),
    ],
)
def test_a_table_of_settings_is_the_dataclass(page: Path, config: type[PolicyConfig]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", page.read_text(), flags=re.MULTILINE)
    documented = dict(rows)
    expected = {field.name: _shown(field.default) for field in fields(config)}
    assert documented == expected


def _pages() -> list[Path]:
    folders = [ROOT, ROOT / "docs", ROOT / "benchmarks", SKYREELS, MAGI, HELIOS]
    return [page for folder in folders for page in sorted(folder.glob("*.md"))]


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def _shown(default: object) -> str:
    value = getattr(default, "value", default)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(one) for one in cast('tuple[object, ...]', value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_the_pinned_set_lies_within_the_ranges() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if re.match(r"\w+==", line)
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    from packaging.requirements import Requirement

    ranges = [Requirement(line) for line in (*project["dependencies"], *extras["video"], *extras["magi"])]
    ranges = [one for one in ranges if one.name != project["name"]]
    assert len(ranges) == 15
    for one in ranges:
        assert pins[one.name] in one.specifier


def test_the_studio_has_the_tested_set_but_for_what_gradio_does_not_take() -> None:
    tested, studio = (
        set(re.findall(r"^[\w-]+==.*$", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-studio.txt")
    )
    assert {line.split("==")[0] for line in tested - studio} == {"pillow"}
    assert {line.split("==")[0] for line in studio - tested} == {"pillow", "gradio"}


def test_nothing_imports_torchvision() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import motioncache, motioncache_eval.figures, motioncache_eval.video, motioncache_skyreels.job.load\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_the_library_imports_no_model() -> None:
    code = "import sys, motioncache; assert not {'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_files_and_functions_stay_short() -> None:
    """A file is one concept, and a function fits in the head; ruff counts the decisions."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    sources = {name: (ROOT / name).read_text() for name in listed.stdout.split()}
    long_files = {name for name, source in sources.items() if len(source.splitlines()) > 330}
    assert long_files == set()
    functions = [
        (f"{name}: {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for name, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [name for name, lines in functions if lines > 45] == []
