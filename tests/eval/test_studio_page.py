"""The studio in a browser: make, watch, compare, find again; and what must not get in or out."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from motioncache_eval.studio.config import StudioConfig
from motioncache_eval.studio.models import Models
from motioncache_eval.studio.studio import Studio

from .test_studio import MODEL, StandIn

pytest.importorskip("gradio", reason="the studio's page is tested where gradio is installed")


class Running:
    """A studio that is being served, with a stand-in for the model."""

    def __init__(self, output: Path, queue: int = 16) -> None:
        import uvicorn

        from motioncache_eval.studio.app import create_app

        self.pause = threading.Event()
        self.pause.set()
        models = Models([MODEL])
        models.load = lambda wanted: StandIn(wanted.job, self.pause)  # pyright: ignore
        self.studio = Studio(models, output)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = StudioConfig(port=port, queue=queue, output=str(output))
        self.address = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(uvicorn.Config(create_app(self.studio, config), port=port, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.05)

    def close(self) -> None:
        self.pause.set()
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    studio = Running(tmp_path / "out")
    yield studio
    studio.close()


def ask(prompt: str = "a red square", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Arguments of the interface's `make`."""
    return {
        "model": MODEL, "preset": "vanilla", "prompt": prompt, "negative": "", "image": None, "video": None,
        "frames": 37, "height": 32, "width": 32, "steps": 2, "seed": seed, "target": 3, **changes,
    }  # fmt: skip


def call(address: str, api_name: str, *values: Any) -> Any:
    from gradio_client import Client

    return Client(address, verbose=False).predict(*values, api_name=api_name)


def make(running: Running, **changes: Any) -> str:
    """Make a video over the interface; return its name."""
    status, _ = call(running.address, "/make", *ask(**changes).values())
    return status.removeprefix("Complete: ")


def test_a_client_makes_compares_and_finds_videos(running: Running) -> None:
    first, second = make(running), make(running, seed=1)
    assert {entry.name for entry in running.studio.history.entries()} == {first, second}
    distance, page = call(running.address, "/compare", first, second)
    assert distance.startswith("PSNR 7")
    assert f"{first}--{second}.html" in page
    links, _, command, program = call(running.address, "/show", first)
    assert f"runs/{first}/video.mp4" in links
    assert "prompt=a red square" in command
    assert "enable_cache" not in program  # vanilla
    assert "s on this machine" in call(running.address, "/estimate", *ask().values())


def test_a_wrong_input_is_a_sentence(running: Running) -> None:
    with pytest.raises(Exception, match="num_frames: 38 is not allowed; allowed: 4 n"):
        make(running, frames=38)
    assert running.studio.history.entries() == []


def test_twenty_at_once_are_served_or_refused(tmp_path: Path) -> None:
    running = Running(tmp_path / "out", queue=12)

    def one(seed: int) -> str:
        try:
            return make(running, seed=seed)
        except Exception as error:
            return f"refused: {error}"

    try:
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(one, range(20)))
    finally:
        running.close()
    made = [name for name in found if not name.startswith("refused")]
    assert len(made) >= 12
    assert all("full" in text.lower() for text in found if text.startswith("refused")), found
    assert len(running.studio.history.entries()) == len(set(made)) == len(made)


HOSTILE = (
    "runs/../settings.json", "runs/%2e%2e/%2e%2e/etc/passwd", "runs/ENTRY/%2e%2e%2fsecret.txt", "runs/ENTRY/frames.mkv",
    "runs/ENTRY/secret.txt", "comparisons/..%2fsecret.txt", "comparisons/secret.txt", "live/../../secret.txt",
    "progress/../../etc/passwd", "gradio_api/file=SECRET", "file=SECRET",
)  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_nothing_but_videos_is_handed_out(running: Running, path: str) -> None:
    import httpx

    entry = make(running)
    secret = running.studio.history.output.parent / "secret.txt"
    for place in (
        secret,
        running.studio.history.output / "secret.txt",
        running.studio.history.output / entry / "secret.txt",
    ):
        place.write_text("hidden")
    address = f"{running.address}/{path}".replace("ENTRY", entry).replace("SECRET", str(secret))
    answer = httpx.get(address, follow_redirects=True)
    assert "hidden" not in answer.text
    assert answer.status_code in (403, 404) or "text/html" in answer.headers["content-type"]


def test_a_page_elsewhere_is_not_answered(running: Running) -> None:
    import httpx

    assert httpx.get(running.address, headers={"host": "evil.example"}).status_code == 400
    assert httpx.get(running.address).status_code == 200


@pytest.fixture
def page(browser: Any, running: Running) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(running.address)
    page.get_by_label("Prompt", exact=True).wait_for()
    yield page
    context.close()


def fill(page: Any, prompt: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("vanilla").check()
    for label, value in (("Frames", "37"), ("Height", "32"), ("Width", "32"), ("Denoise steps", "2")):
        page.get_by_label(label, exact=True).fill(value)


def test_the_first_chunk_is_seen_before_the_last_is_made(page: Any, running: Running) -> None:
    running.pause.clear()
    fill(page, "a <img src=x onerror=alert(1)> square")
    page.get_by_role("button", name="Make").click()
    live = page.frame_locator("iframe.motioncache")
    live.locator("video[src*='part-']").wait_for(timeout=20_000)
    assert running.studio.history.entries()[0].state == "interrupted"  # it is still being made
    assert "%" in live.locator("#left").inner_text()
    running.pause.set()
    page.frame_locator("iframe[src*='page.html']").locator("canvas").first.wait_for(timeout=20_000)
    assert running.studio.history.entries()[0].state == "complete"
    page.reload()
    page.get_by_role("tab", name="History and comparison").click()
    page.get_by_label("Video", exact=True).click()
    page.get_by_role("option", name="complete").first.click()
    page.get_by_text("video.mp4").wait_for(timeout=20_000)
    assert page.problems == []


def test_stop_keeps_what_is_there(page: Any, running: Running) -> None:
    running.pause.clear()
    fill(page, "a square")
    page.get_by_role("button", name="Make").click()
    page.frame_locator("iframe.motioncache").locator("video[src*='part-']").wait_for(timeout=20_000)
    page.get_by_role("button", name="Stop").click()
    time.sleep(0.5)
    running.pause.set()
    page.frame_locator("iframe[src*='page.html']").locator("canvas").first.wait_for(timeout=20_000)
    assert running.studio.history.entries()[0].state == "stopped"


def test_a_mistake_is_a_sentence_on_the_page(page: Any) -> None:
    fill(page, "a square")
    page.get_by_label("Frames", exact=True).fill("38")
    page.get_by_role("button", name="Make").click()
    page.get_by_text("num_frames: 38 is not allowed").first.wait_for(timeout=20_000)
