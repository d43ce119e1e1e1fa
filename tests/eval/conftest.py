"""A headless Chromium, where there is one; a folder of VBench sampling."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval.vbench.folder import OutputFolder

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
def folder(tmp_path: Path) -> OutputFolder:
    """A folder in which one of two videos is made."""
    folder = OutputFolder(tmp_path / "out")
    folder.prepare(SETTINGS, VIDEOS)
    write(folder.path(VIDEOS[0]), noise())
    enter(folder, VIDEOS[0])
    return folder
