"""The HTTP interface: what `gradio_client` and `curl` call, beside the page and without its widgets."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
from gradio.utils import get_upload_folder  # pyright: ignore[reportMissingImports]

from motioncache.errors import MotionCacheError
from motioncache_eval.settings import require
from motioncache_eval.studio.commands import as_command, as_python
from motioncache_eval.studio.history import PAGE, VIDEO, Entry
from motioncache_eval.studio.line import Waiting
from motioncache_eval.studio.making import Progress
from motioncache_eval.studio.models import Wanted
from motioncache_eval.studio.studio import Studio

PRESET, TARGET = "slow", 3.0

PAUSE = 2.0
"""Seconds after which it is told again how far a video is, if no chunk was done meanwhile."""

TEXTS = ("prompt", "negative_prompt")


class Interface:
    """Functions with plain arguments and plain results; a mistake is an error of one sentence."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def offer(self) -> None:
        """Add the functions to the page that is being built."""
        for function in (self.make, self.stop, self.estimate, self.videos, self.video, self.compare, self.remove):
            gr.api(function, api_name=function.__name__, queue=function == self.make, concurrency_limit=None)

    def make(
        self,
        model: str,
        prompt: str,
        preset: str = PRESET,
        target_speedup: float = TARGET,
        negative_prompt: str = "",
        image: dict | None = None,
        video: dict | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        seed: int | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[dict]:
        """Make a video; what is told last is the finished one, as `video` describes it."""
        given = {
            "prompt": prompt, "negative_prompt": negative_prompt, "image": uploaded(image), "video": uploaded(video),
            "num_frames": num_frames, "height": height, "width": width, "num_inference_steps": num_inference_steps,
            "seed": seed, "target_speedup": target_speedup,
        }  # fmt: skip
        try:
            wanted, last = read_wanted(self._studio, model, preset, given), ("", 0.0)
            for told in self._studio.make(session_of(request), wanted):
                described = self._describe_told(told)
                now = (str(described.get("parts", described["state"])), time.monotonic())
                if now[0] != last[0] or now[1] - last[1] > PAUSE or "mp4" in described:
                    last = now
                    yield described
        except MotionCacheError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def stop(self, request: gr.Request | None = None) -> str:
        """End what this session has asked for; what is done is kept."""
        self._studio.stop(session_of(request))
        return "stopped"

    def estimate(
        self,
        model: str,
        preset: str = PRESET,
        target_speedup: float = TARGET,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
    ) -> dict:
        """What a video takes: FLOPs without a cache (`whole`) and with it (`flops`), `seconds`, bytes of `memory`."""
        given = {
            "prompt": "a video", "num_frames": num_frames, "height": height, "width": width,
            "num_inference_steps": num_inference_steps, "target_speedup": target_speedup,
        }  # fmt: skip
        return _plainly(lambda: asdict(self._studio.estimate(read_wanted(self._studio, model, preset, given))))

    def videos(self) -> list[dict]:
        """The history, the newest first."""
        return [self._describe(entry) for entry in self._studio.history.entries()]

    def video(self, name: str) -> dict:
        """One video: its state, settings and figures, its files, and how it is made again."""
        return _plainly(lambda: self._describe_whole(self._studio.history.find(name)))

    def compare(self, reference: str, other: str) -> dict:
        """How far two videos are apart: `psnr_db`, `ssim`, and the page that shows them beside each other."""
        found = _plainly(lambda: self._studio.compare(reference, other))
        return {**asdict(found), "page": f"comparisons/{found.page}"}

    def remove(self, name: str) -> str:
        """Delete a video."""
        _plainly(lambda: self._studio.remove(name))
        return "removed"

    def _describe_told(self, told: Progress | Waiting) -> dict[str, Any]:
        if isinstance(told, Waiting):
            return {"state": "waiting", "before": told.before}
        if told.finished is not None:
            return self.video(told.entry)
        parts = [f"runs/{told.entry}/{part}" for part in told.parts]
        return {"name": told.entry, "state": "being made", "share": told.share, "parts": parts}

    def _describe(self, entry: Entry) -> dict[str, Any]:
        return {
            "name": entry.name,
            "state": "being made" if self._studio.progress(entry.name) else entry.state,
            "prompt": entry.report["prompt"],
            "model": entry.report["model"],
            "preset": entry.report["preset"],
            "parts": [f"runs/{entry.name}/{part}" for part in entry.parts],
        }

    def _describe_whole(self, entry: Entry) -> dict[str, Any]:
        described = {**self._describe(entry), "figures": entry.report}
        if entry.whole:
            files = {"mp4": f"{VIDEO}.mp4", "json": f"{VIDEO}.json", "page": PAGE}
            described |= {key: f"runs/{entry.name}/{file}" for key, file in files.items()}
            defaults = self._studio.models.defaults(entry.report["model"])
            described |= {"command": as_command(entry, defaults), "python": as_python(entry)}
        return described


def read_wanted(studio: Studio, model: str, preset: str, given: dict[str, Any]) -> Wanted:
    """What somebody asks for; an empty text, and a number that is 0, leave a setting to the model.

    Raises:
        MotionCacheError: see `Models.read`.
    """
    texts = {"model": model, "preset": preset, **{key: given.get(key) for key in TEXTS}}
    for key, value in texts.items():
        require(key, value, value is None or isinstance(value, str), "a text")
    takes = studio.models.takes(model)
    wishes = {key: value for key, value in given.items() if value not in (None, "", 0) or key in ("prompt", "seed")}
    if preset != "forecast":
        wishes.pop("target_speedup", None)
    if "seed" in wishes and wishes["seed"] is None:
        del wishes["seed"]
    unknown = [key for key in wishes if key not in takes and key != "prompt"]
    if unknown:
        raise MotionCacheError(f"{model} takes no {', '.join(unknown).replace('_', ' ')}: leave it out")
    return studio.models.read(model, preset, wishes)


def uploaded(file: dict | str | None) -> str | None:
    """The path of a file that was uploaded; no other path is taken.

    Raises:
        gr.Error: for any other path.
    """
    if file is None:
        return None
    path = Path(str(file.get("path") if isinstance(file, dict) else file)).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise gr.Error("an image or a video has to be uploaded: paths are not taken", print_exception=False)
    return str(path)


class UploadsOnly(gr.Blocks):
    """A page that takes no file but those that were uploaded.

    Gradio copies whatever path or address a request names to where it is served from; for pages that it did not launch
    itself, it does not check which.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **options: Any) -> Any:
        _refuse_paths(inputs)
        return await super().preprocess_data(block_fn, inputs, *rest, **options)


def _refuse_paths(value: Any) -> None:
    if isinstance(value, dict) and "path" in value:
        uploaded(value)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _refuse_paths(inner)


def session_of(request: gr.Request | None) -> str:
    """Whose request it is."""
    return (request.session_hash if request is not None else None) or ""


def _plainly(call: Any) -> Any:
    try:
        return call()
    except MotionCacheError as error:
        raise gr.Error(str(error), print_exception=False) from None
