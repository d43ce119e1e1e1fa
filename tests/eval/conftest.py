"""A headless Chromium, where there is one; a folder of VBench sampling."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval.studio.studio import Studio
from motioncache_eval.vbench.folder import OutputFolder

from .studio_standin import stand_in_models
from .vbench_folders import SETTINGS, VIDEOS, enter, noise, write


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pages are tested with playwright")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("pages are tested where chromium is installed (or CHROMIUM names it)")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", *quiet])
        yield started
        started.close()


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(stand_in_models(), tmp_path / "out")


@pytest.fixture
def pause() -> Iterator[threading.Event]:
    pause = threading.Event()
    yield pause
    pause.set()


@pytest.fixture
def paused(tmp_path: Path, pause: threading.Event) -> Studio:
    """A studio whose videos wait for `pause` before their last chunk."""
    return Studio(stand_in_models(pause), tmp_path / "out", most=2)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Any]:
    """A studio that is served, with a stand-in for the model."""
    pytest.importorskip("gradio", reason="the studio's page is tested where gradio is installed")
    from .studio_server import Running

    studio = Running(tmp_path / "out")
    yield studio
    studio.close()


@pytest.fixture
def folder(tmp_path: Path) -> OutputFolder:
    """A folder in which one of two videos is made."""
    folder = OutputFolder(tmp_path / "out")
    folder.prepare(SETTINGS, VIDEOS)
    write(folder.path(VIDEOS[0]), noise())
    enter(folder, VIDEOS[0])
    return folder
