"""The studio's page, on Gradio: make, watch, compare, keep."""

import html
from collections.abc import Generator, Sequence
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from motioncache.errors import MotionCacheError
from motioncache_eval.studio.commands import as_command, as_python
from motioncache_eval.studio.estimate import estimate
from motioncache_eval.studio.history import PAGE, VIDEO, Entry
from motioncache_eval.studio.models import Wanted
from motioncache_eval.studio.studio import Studio

FORECAST, FIRST_PRESET = "forecast", "slow"

LONGEST = 5000
"""Letters of a prompt that the page takes."""

EMPTY = "<p>What you make appears here, chunk by chunk.</p>"

CSS = """
iframe.motioncache { width: 100%; height: 44rem; border: 0; }
footer { display: none !important; }
"""


def build_page(studio: Studio) -> gr.Blocks:
    """The page, whose functions are the HTTP interface, too."""
    with gr.Blocks(title="MotionCache studio") as page:
        gr.Markdown("# MotionCache studio\nVideos that appear chunk by chunk, and what the cache saved.")
        with gr.Tab("Make"):
            _MakeTab(studio)
        with gr.Tab("History and comparison"):
            _history_tab(studio, page)
    return page


class _MakeTab:
    """The tab that makes a video: what is asked for on the left, the video on the right."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._ask()
                with gr.Row():
                    self._make = gr.Button("Make", variant="primary")
                    self._stop = gr.Button("Stop")
            with gr.Column(scale=3, min_width=320):
                self._status = gr.Markdown("")
                self._view = gr.HTML(EMPTY)
        self._inputs = [
            self._model, self._preset, self._prompt, self._negative, self._image, self._video, *self._numbers,
            self._target,
        ]  # fmt: skip
        self._wire()

    def _ask(self) -> None:
        models, first = self._studio.models, self._studio.models.names[0]
        takes = models.takes(first)
        self._model = gr.Dropdown(models.names, value=first, label="Model")
        self._prompt = gr.Textbox(label="Prompt", lines=2, max_length=LONGEST, placeholder="what the video shows")
        self._negative = gr.Textbox(label="Negative prompt", max_length=LONGEST, visible="negative_prompt" in takes)
        with gr.Accordion("Start from a picture or a video", open=False, visible="image" in takes) as self._given:
            self._image = gr.Image(label="Picture", type="filepath", sources=["upload"])
            self._video = gr.Video(label="Video", sources=["upload"])
        self._preset = gr.Radio(models.presets(first), value=FIRST_PRESET, label="Preset")
        self._target = gr.Slider(1.5, 8, value=3, step=0.5, label="How many times fewer FLOPs", visible=False)
        with gr.Row():
            labels = ("Frames", "Height", "Width", "Denoise steps", "Seed")
            self._numbers = [gr.Number(0, label=label, precision=0) for label in labels]
        gr.Markdown("0 frames, pixels or steps are the model's own.")
        self._cost = gr.Markdown()

    def _wire(self) -> None:
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        self._model.change(self._choose, self._model, [self._preset, self._negative, self._given], **hidden)
        self._preset.change(lambda name: gr.update(visible=name == FORECAST), self._preset, self._target, **hidden)
        for field in (self._model, self._preset, self._target, *self._numbers):
            field.change(self._estimate, self._inputs, self._cost, **hidden)
        shown = [self._status, self._view]
        self._make.click(self._run, self._inputs, shown, api_name="make", show_progress="hidden")
        self._stop.click(self._end, None, None, api_name="stop", queue=False)

    def _choose(self, name: str) -> list[Any]:
        """What a model takes."""
        takes = self._studio.models.takes(name)
        return [
            gr.update(choices=self._studio.models.presets(name), value=FIRST_PRESET),
            gr.update(visible="negative_prompt" in takes),
            gr.update(visible="image" in takes),
        ]

    def _estimate(self, *values: Any) -> str:
        try:
            return estimate(_wanted(self._studio, *values), self._studio.history.entries())
        except MotionCacheError as error:
            return str(error)

    def _run(self, request: gr.Request, *values: Any) -> Generator[tuple[str, str]]:
        yield from _run(self._studio, request.session_hash or "", values)

    def _end(self, request: gr.Request) -> None:
        self._studio.stop(request.session_hash or "")


def _run(studio: Studio, who: str, values: Sequence[Any]) -> Generator[tuple[str, str]]:
    shown = ""
    try:
        for progress in studio.make(who, _wanted(studio, *values)):
            if progress.finished is not None:
                yield f"Complete: {progress.entry}", _frame(f"runs/{progress.entry}/{PAGE}", "the video")
            elif shown != progress.entry:
                shown = progress.entry
                yield f"Making {shown}", _frame(f"live/{shown}", "the video in the making")
    except MotionCacheError as error:
        raise gr.Error(str(error), title="This cannot be made", print_exception=False) from None


def _wanted(
    studio: Studio, model: str, preset: str, prompt: str, negative: str, image: str | None, video: str | None,
    frames: int | None, height: int | None, width: int | None, steps: int | None, seed: int | None, target: float,
) -> Wanted:  # fmt: skip
    takes = studio.models.takes(model)
    wishes = {
        "prompt": prompt,
        "negative_prompt": negative or None,
        "image": image,
        "video": video,
        "num_frames": frames or None,
        "height": height or None,
        "width": width or None,
        "num_inference_steps": steps or None,
        "seed": seed,
        "target_speedup": target if preset == FORECAST else None,
    }
    given = {key: value for key, value in wishes.items() if key in takes}
    return studio.models.read(model, preset, given)


def _history_tab(studio: Studio, page: gr.Blocks) -> None:
    with gr.Row():
        refresh = gr.Button("Refresh")
        chosen = gr.Dropdown([], label="Video", value=None)
        pinned = gr.Dropdown([], label="Reference", value=None)
        compare = gr.Button("Compare", variant="primary")
    status = gr.Markdown("")
    view = gr.HTML("")
    with gr.Row():
        command = gr.Code(label="As a command", language="shell", interactive=False)
        python = gr.Code(label="As Python", language="python", interactive=False)

    def entries() -> tuple[Any, Any]:
        names = [(_title(entry), entry.name) for entry in studio.history.entries()]
        return gr.update(choices=names), gr.update(choices=names)

    def show(name: str | None) -> tuple[str, str, str, str]:
        return _show(studio, name)

    def beside(reference: str | None, other: str | None) -> tuple[str, str]:
        if not reference or not other:
            raise gr.Error("choose a video and a reference", print_exception=False)
        try:
            found = studio.compare(reference, other)
        except MotionCacheError as error:
            raise gr.Error(str(error), title="These cannot be compared", print_exception=False) from None
        return found.distance, _frame(f"comparisons/{found.page}", "two videos in step")

    page.load(entries, None, [chosen, pinned], api_visibility="private")
    refresh.click(entries, None, [chosen, pinned], api_visibility="private")
    chosen.change(show, chosen, [status, view, command, python], api_name="show", queue=False)
    compare.click(beside, [pinned, chosen], [status, view], api_name="compare", queue=False)


def _show(studio: Studio, name: str | None) -> tuple[str, str, str, str]:
    if not name:
        return "", "", "", ""
    try:
        entry = studio.history.find(name)
    except MotionCacheError as error:
        raise gr.Error(str(error), print_exception=False) from None
    if not entry.whole:
        last = f"runs/{name}/{entry.parts[-1]}" if entry.parts else None
        parts = f'<video src="{html.escape(last)}" controls muted></video>' if last else ""
        return f"Interrupted after {len(entry.parts)} chunks.", parts, "", ""
    files = " · ".join(f"[{file}](runs/{name}/{file})" for file in (f"{VIDEO}.mp4", f"{VIDEO}.json", "settings.json"))
    return files, _frame(f"runs/{name}/{PAGE}", "the video"), as_command(entry), as_python(entry)


def _title(entry: Entry) -> str:
    prompt = str(entry.report.get("prompt", ""))
    return f"{entry.name} ({entry.state}): {prompt[:60]}"


def _frame(address: str, title: str) -> str:
    return f'<iframe class="motioncache" src="{html.escape(address)}" title="{html.escape(title)}"></iframe>'
