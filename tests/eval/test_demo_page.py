"""The page of the demo: what it says, and how it moves in a headless Chromium where there is one."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from motioncache import MotionCacheConfig
from motioncache.summary import ForecastErrors
from motioncache_eval.demo_page import DemoPage, describe, headline, make_views, write_demo_page
from motioncache_eval.demo_results import forecast_notes
from motioncache_eval.sampling import Sample
from motioncache_eval.table import Table

from .pages import check_headings, check_nothing_is_cut_off, check_scheme, pixels, shown, trace, video

COMMAND = "motioncache demo prompt='a <b> & \"c\"' preset=slow"


def result(seconds: float, speedup: float, psnr_db: float, flops: float) -> dict[str, float]:
    return {"seconds": seconds, "speedup": speedup, "psnr_db": psnr_db, "flops": flops}


RESULTS = {
    "vanilla": result(38.4, 1.0, 120.0, 8e12),
    "exact": result(25.6, 1.5, 120.0, 4e12),
    "slow": result(16.7, 2.3, 31.5, 1.00e12),
    "forecast": result(16.0, 2.4, 43.2, 1.01e12),
}


def demo_page(**changes: Any) -> DemoPage:
    """Videos of a square, of which `slow` is a pixel ahead; `exact` and `forecast` equal the uncached one."""
    frames = {name: video(int(name == "slow")) for name in RESULTS}
    videos = {name: torch.from_numpy(value).permute(0, 3, 1, 2) / 255 for name, value in frames.items()}
    empty = torch.zeros(1)
    samples = {
        name: Sample(latents=empty, seconds=RESULTS[name]["seconds"], trace=None if name == "vanilla" else trace())
        for name in RESULTS
    }
    values: dict[str, Any] = {
        "prompt": "a square </script> & more",
        "lead": "13 frames.",
        "chosen": "slow",
        "results": RESULTS,
        "views": make_views(samples, videos, RESULTS, {1: torch.linspace(0, 1, 12)}, fps=8, chosen="slow"),
        "table": Table(title="All", header=["", *["a column"] * 9], rows=[[name, *["1.0"] * 9] for name in RESULTS]),
        "notes": [],
        "policy": {"threshold": 0.1, "distance": MotionCacheConfig().distance, "shared_mask": False, "bounds": (1, 2)},
        "machine": {"device": "cpu", "threads": 2},
        "versions": {"torch": "2.13.0"},
        "command": COMMAND,
    }
    return DemoPage(**(values | changes))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (RESULTS["slow"], "2.3 times faster, 31.5 dB from the uncached video, 38 s to 17 s"),
        (RESULTS["exact"], "1.5 times faster, identical to the uncached video, 38 s to 26 s"),
        (result(48.0, 0.8, 60.0, 1e12), "1.2 times slower, 60.0 dB from the uncached video, 38 s to 48 s"),
        (result(4.04, 9.5, 60.0, 1e12), "9.5 times faster, 60.0 dB from the uncached video, 38.4 s to 4.0 s"),
    ],
)
def test_the_headline_is_the_result(result: dict[str, float], said: str) -> None:
    assert headline(result, RESULTS["vanilla"]) == said


def test_a_label_is_a_name_and_its_figures() -> None:
    assert describe("vanilla", RESULTS["vanilla"]) == "without a cache\n38.4 s"
    assert describe("slow", RESULTS["slow"]) == "slow\n16.7 s, 2.3 times faster, 31.5 dB"
    assert describe("exact", RESULTS["exact"]) == "exact\n25.6 s, 1.5 times faster, identical"


def written(page: DemoPage, tmp_path: Path) -> str:
    write_demo_page(tmp_path / "report.html", page)
    return (tmp_path / "report.html").read_text()


def test_forecast_is_mentioned_where_it_had_as_many_flops(tmp_path: Path) -> None:
    said = "The preset forecast is 43.2 dB from the uncached video at the same FLOPs, and 2.4 times faster."
    assert said in written(demo_page(), tmp_path)
    dearer = RESULTS | {"forecast": result(20.0, 1.9, 50.0, 1.2e12)}
    assert "at the same FLOPs" not in written(demo_page(results=dearer), tmp_path)
    assert "at the same FLOPs" not in written(demo_page(chosen="forecast"), tmp_path)


def test_it_says_how_far_forecasts_were_off_where_any_were_made(tmp_path: Path) -> None:
    errors = ForecastErrors(expected=0.267, found=0.27, count=11)
    counted = SimpleNamespace(forecast_errors=errors)
    nothing = SimpleNamespace(forecast_errors=None)
    samples: Any = {
        "vanilla": SimpleNamespace(summary=None),
        "slow": SimpleNamespace(summary=nothing),
        "forecast": SimpleNamespace(summary=counted),
    }
    (note,) = forecast_notes(samples)
    assert note.startswith("forecast: forecasts were off by 27.0%, 26.7% expected, at 11 steps")
    assert f"<li>{note}</li>" in written(demo_page(notes=[note]), tmp_path)


def test_a_page_of_the_preset_exact_folds_nothing_away(tmp_path: Path) -> None:
    page = demo_page()
    views = {name: page.views[name] for name in ("vanilla", "exact")}
    text = written(demo_page(chosen="exact", views=views), tmp_path)
    assert "Other presets" not in text
    assert "identical to the uncached video" in text


def test_it_says_how_it_was_made_and_needs_no_other_file(tmp_path: Path) -> None:
    text = written(demo_page(), tmp_path)
    for setting, value in (
        ("threshold", "0.1"),
        ("distance", "global"),
        ("shared_mask", "false"),
        ("bounds", "[1, 2]"),
    ):
        assert f'<th scope="row">{setting}</th><td>{value}</td>' in text
    assert '<th scope="row">torch</th><td>2.13.0</td>' in text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)


@pytest.fixture
def report(tmp_path: Path) -> str:
    write_demo_page(tmp_path / "report.html", demo_page())
    return (tmp_path / "report.html").as_uri()


@pytest.fixture
def opened(browser: Any, report: str) -> Iterator[Any]:
    """The page, still; without an error in the console until the test ends."""
    tab = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    errors: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(report)
    tab.wait_for_function("document.querySelectorAll('#players canvas[data-frame=\"0\"]').length === 2")
    yield tab
    assert errors == []
    tab.close()


def test_it_opens_with_the_result_and_two_large_videos(opened: Any) -> None:
    assert opened.inner_text("h1").replace("\xa0", " ") == headline(RESULTS["slow"], RESULTS["vanilla"])
    names = opened.eval_on_selector_all("#players figure", "all => all.map(one => one.dataset.method)")
    assert names == ["vanilla", "slow"]
    for canvas in opened.locator("#players canvas:not(.map)").all():
        assert canvas.bounding_box()["width"] >= 500
    assert shown(opened) == ["0", "0"]
    check_headings(opened)


def test_it_plays_at_once_and_in_a_loop(browser: Any, report: str) -> None:
    tab = browser.new_page()
    tab.goto(report)
    assert tab.inner_text("#play") == "Pause"
    tab.wait_for_function("document.querySelector('#players canvas').dataset.frame === '12'")
    tab.wait_for_function("document.querySelector('#players canvas').dataset.frame === '1'")
    tab.keyboard.press(" ")
    frames = shown(tab)
    assert frames[0] == frames[1]
    tab.wait_for_timeout(300)
    assert shown(tab) == frames
    tab.close()


def test_it_stands_still_for_those_who_want_little_motion(opened: Any) -> None:
    opened.wait_for_timeout(400)
    assert shown(opened) == ["0", "0"]
    assert opened.inner_text("#play") == "Play"
    opened.click("#play")  # and plays when asked
    opened.wait_for_function("document.querySelector('#players canvas').dataset.frame !== '0'")


def test_the_difference_is_shown_ten_times(opened: Any) -> None:
    plain, vanilla = pixels(opened, "slow"), pixels(opened, "vanilla")
    opened.check("#difference")
    opened.wait_for_function("document.querySelector('[data-method=slow] canvas').dataset.difference === 'true'")
    apart = pixels(opened, "slow")[8, :, 0].astype(int)
    assert np.flatnonzero(apart > 128).tolist() == [0, 6]  # the square is a pixel ahead: its two edges
    assert (pixels(opened, "vanilla") == vanilla).all()
    assert opened.is_visible("#difference-legend")
    opened.evaluate("document.activeElement.blur()")
    opened.keyboard.press("d")
    assert not opened.is_checked("#difference")
    assert (pixels(opened, "slow") == plain).all()


def test_other_presets_are_folded_away_and_move_along(opened: Any) -> None:
    assert opened.inner_text("summary") == "Other presets: exact, forecast"
    assert opened.is_hidden("#others")
    opened.focus("summary")
    opened.keyboard.press("Enter")
    opened.wait_for_function("document.querySelectorAll('#others canvas[data-frame=\"0\"]').length === 2")
    opened.fill("#frame", "5")
    assert shown(opened) == ["5"] * 4
    opened.check("#difference")
    opened.wait_for_function("document.querySelector('[data-method=exact] canvas').dataset.difference === 'true'")
    assert pixels(opened, "exact")[..., :3].max() < 8  # it equals the uncached video


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(opened: Any) -> None:
    reached = set()
    for _ in range(20):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached >= {"play", "frame", "difference", "SUMMARY", "copy"}
    unnamed = "all => all.filter(one => !(one.labels?.length || one.textContent.trim())).map(one => one.id)"
    assert opened.eval_on_selector_all("input, select, button", unnamed) == []
    assert opened.locator("canvas:not([role=img][aria-label])").count() == 0


def test_the_command_is_copied(browser: Any, report: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto(report)
    assert tab.inner_text("#command") == COMMAND
    tab.click("#copy")
    tab.wait_for_function("document.querySelector('#copied').textContent === 'copied'")
    assert tab.evaluate("navigator.clipboard.readText()") == COMMAND
    tab.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    tab.click("#copy")
    tab.wait_for_function("document.querySelector('#copied').textContent.startsWith('selected')")
    assert tab.evaluate("getSelection().toString()") == COMMAND
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(browser: Any, report: str, scheme: str) -> None:
    tab = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    tab.goto(report)
    tab.click("summary")
    tab.wait_for_function("document.querySelector('.scroll.wide')")
    check_nothing_is_cut_off(tab)
    check_scheme(tab, scheme)
    check_headings(tab)
    tab.close()
