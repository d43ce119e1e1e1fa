"""The page, in a headless Chromium where there is one."""

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motioncache.grid import TokenGrid
from motioncache.record import Phase, Record, WindowShape
from motioncache.trace import Trace
from motioncache_eval.page.build import Page, write_page
from motioncache_eval.page.view import decisions, make_overlay, make_view
from motioncache_eval.table import Table

GRID = TokenGrid(frames=4, height=2, width=3, chunk_frames=2)
FRAMES, HEIGHT, WIDTH = 13, 16, 24


def trace() -> Trace:
    """Two chunks of 12 tokens, three denoise steps: computed, reused, and token 5 alone."""
    made = Trace(windows=[WindowShape(grid=GRID, iterations=3, branches=("cond",), causal=True)])
    for chunk in (0, 1):
        for step, (computed, due) in enumerate([(12, None), (0, None), (1, torch.tensor([5]))]):
            made.records.append(
                Record(
                    window=0, iteration=step, chunk=chunk, branch="cond", step=step, phase=Phase.token, tokens=12,
                    candidates=computed, computed=computed, attended=12, due=due,
                )
            )  # fmt: skip
    return made


def video(shift: int) -> np.ndarray:
    """A bright square that is `shift` pixels ahead of its frame number."""
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for i in range(FRAMES):
        frames[i, 4:12, (i + shift) % 16 : (i + shift) % 16 + 6] = 255
    return frames


@pytest.fixture
def page(tmp_path: Path) -> Path:
    overlay = make_overlay(trace(), {1: torch.linspace(0, 1, 12)})
    videos: dict[str, dict[str, Any]] = {
        "a square </script> & more": {
            "vanilla": make_view(video(0), fps=8, trace=None, overlay=None),
            "slow": {**make_view(video(1), fps=8, trace=trace(), overlay=overlay), "caption": "30.0 dB"},
            "broken": {"error": "out of luck <b>"},
        },
        "another": {"vanilla": make_view(video(3)[:5], fps=8, trace=None, overlay=None)},
    }
    points = [
        {"name": f"slow {i}", "family": "slow", "cost": 1.0 + i, "quality": 30.0 + i, "low": 29.0 + i, "high": 31.0 + i}
        for i in range(3)
    ]
    path = tmp_path / "report.html"
    rows = [["vanilla", "1.00x"], ["slow <i>", "2.00x"]]
    write_page(
        path,
        Page(
            heading="A & B",
            lead="Lead.",
            tables=[Table(title="Speed", header=["", "speed"], rows=rows)],
            points=points,
            videos=videos,
        ),
    )
    return path


def test_a_trace_becomes_maps_and_shares() -> None:
    overlay = make_overlay(trace(), {1: torch.linspace(0, 1, 12)})
    assert overlay.reused.shape == (4, 2, 3)
    reused = overlay.reused.reshape(2, 12)
    assert (reused[:, 5] == 85).all()  # reused in one of three steps
    assert (np.delete(reused, 5, axis=1) == 170).all()
    assert overlay.weight is not None
    assert (overlay.weight[:2] == 0).all()
    assert overlay.weight[3, 1, 2] == 255
    assert make_overlay(trace(), {}).weight is None
    assert decisions(trace()) == [[1.0, 0.0, 0.083]] * 2


def test_wide_frames_are_shrunk() -> None:
    view = make_view(np.zeros((2, 90, 640, 3), np.uint8), fps=24, trace=None, overlay=None)
    assert (view["width"], view["height"]) == (320, 45)


def test_the_file_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "[[" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "A &amp; B" in text
    assert "slow &lt;i&gt;" in text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert data is not None
    assert "a square </script> & more" in json.loads(data.group(1))["videos"]


def test_a_method_may_be_named_like_a_part_of_the_page(tmp_path: Path) -> None:
    names = [f"[[{part}]]" for part in ("SCRIPT", "DATA", "STYLE", "TABLES", "HEADING", "LEAD")]
    table = Table(title="Speed", header=["", "speed"], rows=[[name, "1.00x"] for name in names])
    write_page(tmp_path / "a.html", Page(heading="[[SCRIPT]]", lead="[[TABLES]]", tables=[table], points=[], videos={}))
    text = (tmp_path / "a.html").read_text()
    for name in names:
        assert f'<th scope="row">{name}</th>' in text
    assert "<title>[[SCRIPT]]</title>" in text
    assert "<p>[[TABLES]]</p>" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("the page is tested where chromium is installed (or CHROMIUM names it)")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", *quiet])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    """The page, loaded without an error in the console, and still without one when the test ends."""
    tab = browser.new_page(viewport={"width": 900, "height": 700})
    errors: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(page.as_uri())
    tab.wait_for_function("document.querySelector('figure canvas')?.dataset.frame === '0'")
    yield tab
    assert errors == []
    tab.close()


def shown(tab: Any) -> list[str]:
    return tab.eval_on_selector_all("figure canvas:not(.map)", "all => all.map(canvas => canvas.dataset.frame)")


def pixels(tab: Any, method: str) -> np.ndarray:
    """uint8 `[height, width, 4]` of a player's canvas."""
    script = f"""() => {{
        const canvas = document.querySelector('figure[data-method="{method}"] canvas');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return btoa(String.fromCharCode(...data));
    }}"""
    return np.frombuffer(base64.b64decode(tab.evaluate(script)), np.uint8).reshape(HEIGHT, WIDTH, 4)


def test_players_move_together(opened: Any) -> None:
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowLeft")
    assert shown(opened) == ["1", "1"]
    opened.fill("#frame", "7")
    assert shown(opened) == ["7", "7"]
    assert opened.inner_text("#frame-number") == "8 of 13"
    bright = [np.flatnonzero(pixels(opened, method)[8, :, 0] > 128) for method in ("vanilla", "slow")]
    assert bright[0].tolist() == [*range(7, 13)]
    assert bright[1].tolist() == [*range(8, 14)]
    opened.keyboard.press("Tab")
    opened.click("#play")
    opened.wait_for_function("document.querySelector('figure canvas').dataset.frame !== '7'")
    opened.click("#play")
    frames = shown(opened)
    assert frames[0] == frames[1] != "7"
    opened.wait_for_timeout(300)
    assert shown(opened) == frames  # it stands still


def test_the_overlay_switches(opened: Any) -> None:
    opened.fill("#frame", "12")
    opened.evaluate("document.activeElement.blur()")
    plain, vanilla = pixels(opened, "slow"), pixels(opened, "vanilla")
    opened.keyboard.press("2")
    weighed = pixels(opened, "slow")
    assert opened.is_checked("input[name=overlay][value=weight]")
    assert (weighed[-2, -2] != plain[-2, -2]).any()  # the last token has weight 1
    opened.check("input[name=overlay][value=reused]")
    reused = pixels(opened, "slow")
    assert (reused != weighed).any()
    assert (pixels(opened, "vanilla") == vanilla).all()  # nothing was reused there
    opened.keyboard.press("1")
    assert (pixels(opened, "slow") == plain).all()


def test_another_prompt_and_what_is_missing(opened: Any) -> None:
    assert opened.inner_text(".error") == "out of luck <b>"
    assert "30.0 dB" in opened.inner_text('figure[data-method="slow"] figcaption')
    assert "computed" in opened.get_attribute('figure[data-method="slow"] canvas.map', "aria-label")
    assert opened.locator("#curve circle").count() == 3
    opened.fill("#frame", "12")
    opened.select_option("#prompt", "another")
    opened.wait_for_function("document.querySelectorAll('figure').length === 1")
    opened.wait_for_function("document.querySelector('figure canvas').dataset.frame === '4'")
    assert opened.inner_text("#frame-number") == "5 of 5"


def test_methods_are_chosen(browser: Any, page: Path, tmp_path: Path) -> None:
    """Of many methods a few are shown at first."""
    views = {name: make_view(video(i), fps=8, trace=None, overlay=None) for i, name in enumerate("abc")}
    path = tmp_path / "chosen.html"
    write_page(path, Page(heading="", lead="", tables=[], points=[], videos={"one": views}, chosen=["a", "b"]))
    tab = browser.new_page()
    tab.goto(path.as_uri())
    assert tab.locator("figure").count() == 2
    tab.click("summary")
    tab.check("input[value=c]")
    tab.uncheck("input[value=a]")
    names = tab.eval_on_selector_all("figure", "all => all.map(figure => figure.dataset.method)")
    assert names == ["b", "c"]
    tab.goto(page.as_uri())
    assert tab.is_hidden("#choice")  # all are shown
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_window_in_both_schemes(browser: Any, page: Path, scheme: str) -> None:
    tab = browser.new_page(viewport={"width": 340, "height": 700}, color_scheme=scheme)
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 340
    ink, paper = (
        tab.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)")
        for name in ("color", "backgroundColor")
    )
    assert abs(sum(ink[:3]) - sum(paper[:3])) > 500  # readable
    assert (sum(paper[:3]) > 382) == (scheme == "light")
    tab.close()
