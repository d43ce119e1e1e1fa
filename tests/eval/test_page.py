"""The page of a benchmark, in a headless Chromium where there is one, and the parts that all pages share."""

import io
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from motioncache_eval.page.build import Page, write_page
from motioncache_eval.page.view import LARGEST_SHEET, decisions, difference, make_overlay, make_view
from motioncache_eval.table import Table

from .pages import check_headings, check_nothing_is_cut_off, check_scheme, pixels, shown, trace, video


@pytest.fixture
def page(tmp_path: Path) -> Path:
    overlay = make_overlay(trace(), {1: torch.linspace(0, 1, 12)})
    videos: dict[str, dict[str, Any]] = {
        "a square </script> & [[MAIN]]": {
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
    wide = [["vanilla", *["1.00x"] * 8], ["slow <i>", *["2.00x"] * 8]]
    tables = [
        Table(title="Speed", header=["", *["speed of it"] * 8], rows=wide),
        Table(title="Small", header=["", "speed"], rows=[["vanilla", "1.00x"]]),
    ]
    write_page(
        path,
        Page(
            heading="A & B",
            lead="Lead.",
            tables=tables,
            points=points,
            videos=videos,
            accent=["slow <i>"],
            findings=["slow is ahead"],
            failures=["broken: out of luck <b>"],
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
    view = make_view(np.zeros((2, 90, 1280, 3), np.uint8), fps=24, trace=None, overlay=None)
    assert (view["width"], view["height"]) == (640, 45)


@pytest.mark.parametrize(("count", "height", "width"), [(3000, 64, 96), (700, 200, 320), (40, 2000, 64), (1, 8, 8)])
def test_the_sheet_of_a_video_of_any_length_can_be_written_and_read(count: int, height: int, width: int) -> None:
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[-1] = 200
    view = make_view(frames, fps=24, trace=None, overlay=None)
    sheet = Image.open(io.BytesIO(b64decode(view["sprite"].partition(",")[2])))
    last = count - 1
    left, top = last % view["columns"] * view["width"], last // view["columns"] * view["height"]
    assert sheet.width == view["columns"] * view["width"]
    assert 0 <= sheet.height - top - view["height"] < 1
    assert view["width"] * view["height"] * count <= LARGEST_SHEET
    pixel = sheet.getpixel((left + view["width"] // 2, top + view["height"] // 2))
    assert isinstance(pixel, tuple)
    assert abs(pixel[0] - 200) < 20


def test_a_difference_is_shown_ten_times_and_never_wraps_around() -> None:
    a, b = np.array([[[[0, 3, 200]]]], np.uint8), np.array([[[[0, 5, 100]]]], np.uint8)
    assert difference(a, b).tolist() == difference(b, a).tolist() == [[[[0, 20, 255]]]]
    view = make_view(video(1), fps=8, trace=None, overlay=None, reference=video(0))
    assert view["difference"] != view["sprite"]


def test_the_file_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "[[" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "A &amp; B" in text
    assert "slow &lt;i&gt;" in text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert data is not None
    assert "a square </script> & [[MAIN]]" in json.loads(data.group(1))["videos"]


def test_a_method_may_be_named_like_a_part_of_the_page(tmp_path: Path) -> None:
    names = [f"[[{part}]]" for part in ("SCRIPT", "DATA", "STYLE", "TABLES", "HEADING", "LEAD")]
    table = Table(title="Speed", header=["", "speed"], rows=[[name, "1.00x"] for name in names])
    write_page(tmp_path / "a.html", Page(heading="[[SCRIPT]]", lead="[[TABLES]]", tables=[table], points=[], videos={}))
    text = (tmp_path / "a.html").read_text()
    for name in names:
        assert f'<th scope="row">{name}</th>' in text
    assert "<title>[[SCRIPT]]</title>" in text
    assert "<p>[[TABLES]]</p>" in text


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


def test_the_curve_comes_first_then_the_videos_and_the_tables(opened: Any) -> None:
    assert opened.locator("h2").all_inner_texts() == ["Quality over cost", "Videos", "Figures", "What raised"]
    assert opened.inner_text("#curve + ul") == "slow is ahead"
    assert opened.locator("section").last.inner_text().endswith("broken: out of luck <b>")
    assert opened.inner_text("tr.accent th") == "slow <i>"
    check_headings(opened)


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


def test_small_videos_are_enlarged_by_whole_factors(opened: Any) -> None:
    for width in (900, 390, 1280):
        opened.set_viewport_size({"width": width, "height": 700})
        opened.wait_for_timeout(100)
        sizes = opened.eval_on_selector_all("figure canvas", "all => all.map(one => one.getBoundingClientRect().width)")
        room = opened.locator("figure").first.evaluate("one => one.clientWidth")
        assert set(sizes) == {room // 24 * 24}
        assert room // 24 >= 8


def test_the_overlay_switches_and_its_legend_tells_its_range(opened: Any) -> None:
    opened.fill("#frame", "12")
    opened.evaluate("document.activeElement.blur()")
    plain, vanilla = pixels(opened, "slow"), pixels(opened, "vanilla")
    assert opened.is_hidden("#overlay-legend")
    opened.keyboard.press("2")
    weighed = pixels(opened, "slow")
    assert opened.is_checked("input[name=overlay][value=weight]")
    assert (weighed[-2, -2] != plain[-2, -2]).any()  # the last token has weight 1
    assert re.fullmatch(r"Last motion weight of a token: 0.09\s*1.00; .*", opened.inner_text("#overlay-legend"))
    opened.check("input[name=overlay][value=reused]")
    reused = pixels(opened, "slow")
    assert (reused != weighed).any()
    assert (pixels(opened, "vanilla") == vanilla).all()  # nothing was reused there
    assert re.search(r"33 %\s*67 %", opened.inner_text("#overlay-legend"))  # in one or two of three steps
    opened.keyboard.press("1")
    assert (pixels(opened, "slow") == plain).all()


def test_another_prompt_and_what_is_missing(opened: Any) -> None:
    assert opened.inner_text(".error") == "out of luck <b>"
    assert "30.0 dB" in opened.inner_text('figure[data-method="slow"] figcaption')
    assert "computed" in opened.get_attribute('figure[data-method="slow"] canvas.map', "aria-label")
    assert opened.is_hidden("#difference-choice")  # these views hold none
    opened.fill("#frame", "12")
    opened.check("input[value=weight]")
    opened.select_option("#prompt", "another")
    opened.wait_for_function("document.querySelectorAll('figure').length === 1")
    opened.wait_for_function("document.querySelector('figure canvas').dataset.frame === '4'")
    assert opened.inner_text("#frame-number") == "5 of 5"
    assert opened.is_hidden("#overlay")  # nothing is known of this video
    assert opened.is_hidden("#overlay-legend")
    opened.evaluate("document.activeElement.blur()")
    opened.keyboard.press("3")
    assert opened.evaluate("document.querySelector('figure canvas').dataset.overlay") == "none"


def test_an_overlay_that_says_nothing_is_not_offered(browser: Any, tmp_path: Path) -> None:
    computed = trace()
    computed.records[:] = [record for record in computed.records if record.step == 0]  # nothing was reused
    views = {"exact": make_view(video(0), fps=8, trace=computed, overlay=make_overlay(computed, {}))}
    path = tmp_path / "nothing.html"
    write_page(path, Page(heading="", lead="", tables=[], points=[], videos={"one": views}))
    tab = browser.new_page()
    tab.goto(path.as_uri())
    assert tab.is_hidden("#overlay")
    assert tab.is_hidden("#prompt")  # there is one
    assert tab.locator("#curve").count() == 0
    tab.close()


def test_a_page_without_videos_has_no_players(browser: Any, tmp_path: Path) -> None:
    table = Table(title="Speed", header=["", *["speed"] * 20], rows=[["vanilla", *["1.00x"] * 20]])
    write_page(tmp_path / "tables.html", Page(heading="A", lead="", tables=[table], points=[], videos={}))
    tab = browser.new_page(viewport={"width": 390, "height": 700})
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((tmp_path / "tables.html").as_uri())
    tab.wait_for_function("document.querySelector('.scroll.wide')")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("h2").all_inner_texts() == ["Figures"]
    assert errors == []
    tab.close()


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
@pytest.mark.parametrize("width", [340, 390])
def test_it_fits_a_narrow_window_in_both_schemes(browser: Any, page: Path, scheme: str, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    tab.goto(page.as_uri())
    tab.wait_for_function("document.querySelector('.scroll.wide')")
    check_nothing_is_cut_off(tab)
    check_scheme(tab, scheme)
    check_headings(tab)
    hints = [hint.is_visible() for hint in tab.locator(".scroll + .hint").all()]
    assert hints == [True, False]  # only the wide table goes on
    tab.set_viewport_size({"width": 2000, "height": 700})
    tab.wait_for_function("!document.querySelector('.scroll.wide')")
    tab.close()
