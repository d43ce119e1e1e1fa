"""The studio in a browser: make, watch, stop, compare, find again; narrow and wide, light and dark, by keyboard."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval.studio.models import Models

from .pages import check_scheme
from .studio_server import MODEL, Running, make

pytest.importorskip("gradio", reason="the studio's page is tested where gradio is installed")

WAIT = 120_000
"""Milliseconds that a step may take; the page needs many seconds where the processor is busy."""

SMALL = {"Frames": "37", "Height": "32", "Width": "32", "Denoise steps": "2"}


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page as another browser would, and finds no error in its console when the test ends."""
    contexts: list[Any] = []
    problems: list[str] = []

    def open_one(running: Running, **look: Any) -> Any:
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | look)))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: None if asked.url.startswith(local(running)) else problems.append(asked.url))
        page.goto(running.address)
        page.get_by_label("Prompt", exact=True).wait_for()
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def local(running: Running) -> tuple[str, ...]:
    return running.address, "data:", "blob:"


def fill(page: Any, prompt: str, preset: str = "without a cache") -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Cache", exact=True).click()
    page.get_by_role("option", name=preset).click()
    page.get_by_role("button", name="Size, length").click()
    for label, value in SMALL.items():
        page.get_by_label(label, exact=True).fill(value)


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def shown(page: Any) -> Any:
    return page.frame_locator("iframe.motioncache")


def wait_for_first_chunk(page: Any) -> None:
    shown(page).locator("video[src*='part-']").wait_for()


def wait_for_end(page: Any) -> Any:
    finished = page.frame_locator("iframe[src*='page.html']")
    finished.locator("canvas").first.wait_for()
    return finished


def test_the_first_chunk_is_seen_before_the_last_is_made_and_a_reload_finds_the_video(
    open_page: Any, running: Running
) -> None:
    page = open_page(running)
    running.pause.clear()
    fill(page, "a <img src=x onerror=alert(1)> square")
    press(page, "Make the video")
    wait_for_first_chunk(page)
    assert running.studio.history.entries()[0].state == "interrupted"  # it is still being made
    assert "%" in shown(page).locator("#left").inner_text()
    running.pause.set()
    finished = wait_for_end(page)
    assert "<img src=x" in finished.locator(".prompt").inner_text()  # as text
    assert running.studio.history.entries()[0].state == "complete"
    page.reload()
    page.get_by_label("Video", exact=True).click()
    page.get_by_role("option", name="square").first.click()
    wait_for_end(page)
    assert page.get_by_role("link", name="Download the MP4").get_attribute("href").endswith("/video.mp4")
    page.get_by_role("button", name="Make it again").click()
    page.get_by_text("motioncache demo").wait_for()
    page.once("dialog", lambda dialog: dialog.accept())
    press(page, "Delete")
    page.get_by_text("Deleted").wait_for()
    assert running.studio.history.entries() == []


def test_stop_keeps_what_is_there(open_page: Any, running: Running) -> None:
    page = open_page(running)
    running.pause.clear()
    fill(page, "a square")
    press(page, "Make the video")
    wait_for_first_chunk(page)
    press(page, "Stop")
    time.sleep(1)
    running.pause.set()
    wait_for_end(page)
    page.get_by_text("Stopped", exact=True).wait_for()
    assert running.studio.history.entries()[0].state == "stopped"


def test_a_mistake_is_a_sentence_on_the_page(open_page: Any, running: Running) -> None:
    page = open_page(running)
    fill(page, "a square")
    page.get_by_label("Frames", exact=True).fill("38")
    page.locator("#cost").get_by_text("Frames: 38 is not allowed").wait_for()
    press(page, "Make the video")
    page.locator("#status").get_by_text("Frames: 38 is not allowed").wait_for()
    assert running.studio.history.entries() == []


def test_two_browsers_do_not_see_each_other_and_the_second_waits(open_page: Any, running: Running) -> None:
    first, second = open_page(running), open_page(running)
    running.pause.clear()
    fill(first, "a square of mine")
    press(first, "Make the video")
    wait_for_first_chunk(first)
    assert second.locator("iframe.motioncache").count() == 0
    assert second.get_by_label("Prompt", exact=True).input_value() == ""
    fill(second, "a square of yours")
    press(second, "Make the video")
    second.get_by_text("1 before this one: it waits.").wait_for()
    press(second, "Stop")
    second.get_by_text("stopped before it began").wait_for()
    running.pause.set()
    wait_for_end(first)
    assert [entry.report["prompt"] for entry in running.studio.history.entries()] == ["a square of mine"]


def test_two_videos_are_compared_with_a_wipe_between_them(open_page: Any, running: Running) -> None:
    make(running, seed=0)
    time.sleep(1.1)
    make(running, seed=1)
    page = open_page(running)
    for option, then in ((1, "Pin as reference"), (0, "Compare with the reference")):
        page.get_by_label("Video", exact=True).click()
        page.get_by_role("option").nth(option).click()
        wait_for_end(page)
        press(page, then)
    page.locator("#status").get_by_text("PSNR 7").wait_for()
    compared = page.frame_locator("iframe[src*='comparisons']")
    compared.get_by_label("a wipe").check()
    compared.locator("#play").click()  # it stands still
    compared.locator("#wiped").wait_for()

    def column(x: float) -> list[int]:
        script = "(one, x) => [...one.getContext('2d').getImageData(x * one.width, 5, 1, 1).data]"
        return compared.locator("#wiped").evaluate(script, x)

    compared.locator("#split").fill("100")
    left = column(0.5)
    compared.locator("#split").fill("0")
    right = column(0.5)
    assert left != right  # the reference, and the other video
    compared.locator("#split").fill("60")
    assert (column(0.5), column(0.9) == right) == (left, False)
    compared.locator("#wiped").focus()
    compared.locator("body").press("3")
    assert compared.locator("#apart").is_visible()
    rows = compared.locator("table").inner_text()
    assert all(name in rows for name in ("seconds", "TFLOPs", "PSNR", "SSIM"))


def test_a_video_is_made_with_the_keyboard_alone(open_page: Any, running: Running) -> None:
    models: Any = running.studio.models
    read = models.read
    models.read = lambda name, _, wishes: read(name, "vanilla", wishes)  # the stand-in takes no cache
    page = open_page(running)

    def tab_to(label: str) -> None:
        told = "document.activeElement.ariaLabel || document.activeElement.innerText || ''"
        labelled = "[...(document.activeElement.labels || [])].map(one => one.innerText).join()"
        for _ in range(60):
            page.keyboard.press("Tab")
            if label in page.evaluate(f"{told} + {labelled}"):
                assert page.evaluate("document.activeElement.matches(':focus-visible')")
                return
        raise AssertionError(f"no Tab leads to {label}")

    tab_to("Prompt")
    page.keyboard.type("a square")
    tab_to("Size, length")
    page.keyboard.press("Enter")
    for label, value in SMALL.items():
        tab_to(label)
        page.keyboard.type(value)
    tab_to("Make the video")
    page.keyboard.press("Enter")
    wait_for_end(page)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_the_scheme_is_the_readers(
    open_page: Any, running: Running, width: int, scheme: str
) -> None:
    make(running)
    page = open_page(running, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.get_by_label("Video", exact=True).click()
    page.get_by_role("option").first.click()
    wait_for_end(page)
    frame = next(frame for frame in page.frames if "page.html" in frame.url)
    for one in (page, frame):
        check_scheme(one, scheme)
        assert one.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    inner = frame.evaluate("document.documentElement.offsetHeight")
    outer = page.locator("iframe.motioncache").evaluate("one => one.clientHeight")
    assert abs(inner - outer) <= 2  # nothing scrolls within the page


def test_the_shipped_model_shows_what_it_computes_and_its_motion_weights(open_page: Any, tmp_path: Path) -> None:
    running = Running(tmp_path / "out", models=Models([MODEL], ["causal_block_size=5"]))
    try:
        page = open_page(running)
        fill(page, "a red circle", preset="slow: MotionCache")
        page.get_by_label("Frames", exact=True).fill("97")
        page.get_by_label("Denoise steps", exact=True).fill("20")
        press(page, "Make the video")
        wait_for_first_chunk(page)
        shown(page).get_by_label("motion weights").check()
        shown(page).locator("#over[data-weighed]").wait_for()
        assert shown(page).locator("#map").evaluate("one => one.width * one.height") > 40
        finished = wait_for_end(page)
        assert finished.get_by_label("motion weights").is_visible()
        page.locator("#cost").get_by_text("on this machine").wait_for()
    finally:
        running.close()
