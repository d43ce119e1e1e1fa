"""A studio that is served, for the tests of its page and its HTTP interface."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

from motioncache_eval.studio.config import StudioConfig
from motioncache_eval.studio.models import Models
from motioncache_eval.studio.studio import Studio

from .studio_standin import MODEL, stand_in_models


class Running:
    """A studio that is being served; without `models`, with a stand-in whose last chunk waits for `pause`."""

    def __init__(self, output: Path, queue: int = 16, models: Models | None = None) -> None:
        import uvicorn

        from motioncache_eval.studio.app import create_app

        self.pause = threading.Event()
        self.pause.set()
        self.studio = Studio(models or stand_in_models(self.pause), output, most=queue)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = StudioConfig(port=port, output=str(output))
        self.address = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(uvicorn.Config(create_app(self.studio, config), port=port, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.05)

    def get(self, path: str, **options: Any) -> Any:
        import httpx

        return httpx.get(f"{self.address}/{path}", follow_redirects=True, timeout=60, **options)

    def say_no(self, asked: dict[str, Any]) -> str:
        """What is said to a request that is refused, as `curl` would see it."""
        import httpx

        place = f"{self.address}/gradio_api/call"
        answer = httpx.post(f"{place}/v2/make", json=asked, timeout=60)
        if answer.status_code != 200:
            return answer.text
        return httpx.get(f"{place}/make/{answer.json()['event_id']}", timeout=60).text

    def close(self) -> None:
        self.pause.set()
        self._server.should_exit = True
        self._thread.join(20)


def ask(prompt: str = "a red square", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Arguments of the interface's `make`."""
    small = {"num_frames": 37, "height": 32, "width": 32, "num_inference_steps": 2}
    return {"model": MODEL, "preset": "vanilla", "prompt": prompt, "seed": seed, **small, **changes}


def client(running: Running) -> Any:
    from gradio_client import Client

    return Client(running.address, verbose=False)


def make(running: Running, **changes: Any) -> str:
    """Make a video over the interface; return its name."""
    return client(running).predict(**ask(**changes), api_name="/make")["name"]
