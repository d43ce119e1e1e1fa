"""The studio's page, on Gradio: ask for a video on the left, watch, compare and keep it on the right."""

from collections.abc import Generator, Sequence
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from motioncache.errors import MotionCacheError
from motioncache_eval.studio.commands import as_command, as_python
from motioncache_eval.studio.history import PAGE
from motioncache_eval.studio.interface import PRESET, TARGET, Interface, UploadsOnly, read_wanted, session_of, uploaded
from motioncache_eval.studio.line import Waiting
from motioncache_eval.studio.looks import (
    EMPTY,
    FILES,
    HEAD,
    RECKONING,
    THEME,
    draw_chunk,
    draw_estimate,
    draw_files,
    draw_frame,
    draw_mistake,
    draw_status,
    title_of,
)
from motioncache_eval.studio.models import VANILLA
from motioncache_eval.studio.studio import Studio

__all__ = ["HEAD", "THEME", "build_page"]

FORECAST = "forecast"

PRESETS = {
    VANILLA: "without a cache",
    "exact": "exact: computes everything",
    "slow": "slow: MotionCache, careful",
    "fast": "fast: MotionCache, bolder",
    FORECAST: "forecast: as many times faster as you say",
}
"""What the page says of the presets that every model has."""

LONGEST = 5000
"""Letters of a prompt that the page takes."""

NUMBERS = {
    "num_frames": "Frames",
    "height": "Height",
    "width": "Width",
    "num_inference_steps": "Denoise steps",
    "seed": "Seed",
}
"""Settings that are numbers, with their labels."""

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}


def build_page(studio: Studio) -> gr.Blocks:
    """The page, with the HTTP interface beside it."""
    with UploadsOnly(
        title="MotionCache studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)
    ) as page:
        gr.Markdown("# MotionCache studio\nVideos that appear chunk by chunk, and what the cache saved.")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                ask = _Ask(studio)
            with gr.Column(scale=3, min_width=320):
                shown = _Shown(studio)
        ask.wire(page, shown)
        shown.wire(page)
        Interface(studio).offer()
    return page


class _Ask:
    """What is asked for."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        names = studio.models.names
        takes = studio.models.takes(names[0])
        self._model = gr.Dropdown(names, value=names[0], label="Model")
        self._prompt = gr.Textbox(label="Prompt", lines=3, max_length=LONGEST, placeholder="What the video shows")
        self._negative = gr.Textbox(
            label="Negative prompt", max_length=LONGEST, visible="negative_prompt" in takes,
            placeholder="What it must not show",
        )  # fmt: skip
        with gr.Accordion("Start from an image or a video", open=False, visible="image" in takes) as self._given:
            self._image = gr.Image(label="Image", type="filepath", sources=["upload"], height=160)
            self._video = gr.Video(label="Video", sources=["upload"], height=160)
        self._preset = gr.Dropdown(self._presets(names[0]), value=PRESET, label="Cache")
        self._target = gr.Slider(
            1.5, 8, value=TARGET, step=0.5, label="How many times faster", info="In FLOPs.", visible=False
        )
        with gr.Accordion("Size, length, steps and seed", open=False):
            gr.Markdown("What is left empty is the model's own.")
            with gr.Row():
                self._numbers = [gr.Number(None, label=one, precision=0, min_width=110) for one in NUMBERS.values()]
        self._cost = gr.HTML(RECKONING, elem_id="cost")
        with gr.Row():
            self._make = gr.Button("Make the video", variant="primary", elem_id="make", scale=3, min_width=160)
            self._stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=90)
        self._inputs = [
            self._model, self._preset, self._target, self._prompt, self._negative, self._image, self._video,
            *self._numbers,
        ]  # fmt: skip

    def wire(self, page: gr.Blocks, shown: "_Shown") -> None:
        """Connect the widgets."""
        choice = [self._preset, self._target, self._negative, self._given]
        self._model.change(self._choose, self._model, choice, **PRIVATE)
        self._preset.change(lambda name: gr.update(visible=name == FORECAST), self._preset, self._target, **PRIVATE)
        for field in (self._model, self._preset, self._target, *self._numbers):
            field.change(self._estimate, self._inputs, self._cost, **PRIVATE)
        page.load(self._estimate, self._inputs, self._cost, **PRIVATE)
        made = {**PRIVATE, "queue": True, "concurrency_limit": None}
        run = self._make.click(self._run(shown), self._inputs, shown.outputs, **made)
        run.then(self._estimate, self._inputs, self._cost, **PRIVATE)  # this machine has made one more
        self._stop.click(self._end, None, None, **PRIVATE)

    def _presets(self, model: str) -> list[tuple[str, str]]:
        return [(PRESETS.get(name, f"{name}, for comparison"), name) for name in self._studio.models.presets(model)]

    def _choose(self, name: str) -> list[Any]:
        """What a model takes."""
        takes = self._studio.models.takes(name)
        return [
            gr.update(choices=self._presets(name), value=PRESET),
            gr.update(visible=False),
            gr.update(visible="negative_prompt" in takes),
            gr.update(visible="image" in takes),
        ]

    def _estimate(self, *values: Any) -> str:
        try:
            return draw_estimate(self._studio.estimate(self._read(values, "a video")))
        except MotionCacheError as error:
            return draw_mistake(_with_labels(error))

    def _read(self, values: Sequence[Any], prompt: str | None = None) -> Any:
        model, preset, target, own, negative, image, video, *numbers = values
        given = {
            "target_speedup": target, "prompt": prompt or own, "negative_prompt": negative, "image": uploaded(image),
            "video": uploaded(video), **dict(zip(NUMBERS, numbers, strict=True)),
        }  # fmt: skip
        takes = self._studio.models.takes(model)
        return read_wanted(self._studio, model, preset, {key: given[key] for key in given if key in takes})

    def _end(self, request: gr.Request) -> None:
        self._studio.stop(session_of(request))

    def _run(self, shown: "_Shown") -> Any:
        def run(request: gr.Request, *values: Any) -> Generator[list[Any]]:
            entry = ""
            try:
                yield shown.plain(draw_status("Beginning"), EMPTY)
                for told in self._studio.make(session_of(request), self._read(values)):
                    if isinstance(told, Waiting):
                        yield shown.plain(draw_status(f"{told.before} before this one: it waits."), EMPTY)
                    elif told.finished is not None:
                        yield shown.entry(told.entry)
                    elif told.entry != entry:
                        entry = told.entry
                        yield shown.plain(draw_status("In the making"), draw_frame(f"live/{entry}", "in the making"))
            except MotionCacheError as error:
                yield shown.plain(draw_mistake(_with_labels(error)), EMPTY)

        return run


class _Shown:
    """What is watched: a video of the history, one in the making, or a comparison."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._chosen = gr.Dropdown([], label="Video", value=None, elem_id="chosen")
        self._status = gr.HTML("", elem_id="status")
        self._view = gr.HTML(EMPTY, elem_id="view")
        with gr.Column(visible=False) as self._keep:
            self._files = gr.HTML("", elem_id="files")
            with gr.Row():
                self._pin = gr.Button("Pin as reference", size="sm", min_width=140)
                self._compare = gr.Button("Compare with the reference", size="sm", min_width=200)
                self._remove = gr.Button("Delete", size="sm", min_width=90)
            self._pinned = gr.Dropdown([], label="Reference", value=None, elem_id="pinned")
            with gr.Accordion("Make it again: as a command, in Python", open=False):
                self._command = gr.Code(label="Copy as command", language="shell", interactive=False, wrap_lines=True)
                self._python = gr.Code(label="Copy as Python", language="python", interactive=False)

    @property
    def outputs(self) -> list[Any]:
        """What `plain` and `entry` fill."""
        return [
            self._chosen, self._pinned, self._status, self._view, self._keep, self._files, self._command, self._python,
        ]  # fmt: skip

    def wire(self, page: gr.Blocks) -> None:
        """Connect the widgets."""
        page.load(self._lists, None, [self._chosen, self._pinned], **PRIVATE)
        self._chosen.focus(self._lists, None, [self._chosen, self._pinned], **PRIVATE)
        self._chosen.input(self.entry, self._chosen, self.outputs, **PRIVATE)
        self._pin.click(lambda name: name, self._chosen, self._pinned, **PRIVATE)
        self._compare.click(self._beside, [self._pinned, self._chosen], self.outputs[2:4], **PRIVATE)
        confirm = "name => name && confirm(`Delete ${name}?`) ? name : null"
        self._remove.click(self._delete, self._chosen, self.outputs, js=confirm, **PRIVATE)

    def plain(self, status: str, view: str) -> list[Any]:
        """Only a status and a view."""
        return [*self._lists(None), status, view, gr.update(visible=False), "", "", ""]

    def entry(self, name: str | None) -> list[Any]:
        """A video of the history."""
        if not name:
            return self.plain("", EMPTY)
        try:
            entry = self._studio.history.find(name)
        except MotionCacheError as error:
            return self.plain(draw_mistake(str(error)), EMPTY)
        if self._studio.progress(name) is not None:
            return self.plain(draw_status("In the making"), draw_frame(f"live/{name}", "in the making"))
        if entry.whole:
            said, view, files = entry.state.capitalize(), draw_frame(f"runs/{name}/{PAGE}", "the video"), tuple(FILES)
            codes = [as_command(entry, self._studio.models.defaults(entry.report["model"])), as_python(entry)]
        else:
            said, files, codes = f"Interrupted after {len(entry.parts)} chunks", entry.parts[-1:], ["", ""]
            view = draw_chunk(name, files[0]) if files else EMPTY
        keep = gr.update(visible=True)
        return [*self._lists(name), draw_status(said), view, keep, draw_files(name, files), *codes]

    def _lists(self, chosen: str | None = "") -> list[Any]:
        """The choices of both lists; an empty text leaves what is chosen."""
        names = [(title_of(entry), entry.name) for entry in self._studio.history.entries()]
        value = {} if chosen == "" else {"value": chosen}
        return [gr.update(choices=names, **value), gr.update(choices=names)]

    def _beside(self, reference: str | None, other: str | None) -> tuple[str, str]:
        if not reference or not other:
            return draw_mistake("Choose a video, pin it as the reference, and choose another one."), gr.skip()
        try:
            found = self._studio.compare(reference, other)
        except MotionCacheError as error:
            return draw_mistake(str(error)), gr.skip()
        return draw_status(found.distance), draw_frame(f"comparisons/{found.page}", "two videos in step")

    def _delete(self, name: str | None) -> list[Any]:
        if not name:
            return [gr.skip()] * len(self.outputs)
        try:
            self._studio.remove(name)
        except MotionCacheError as error:
            return [gr.skip(), gr.skip(), draw_mistake(str(error)), *[gr.skip()] * (len(self.outputs) - 3)]
        return self.plain(draw_status("Deleted"), EMPTY)


def _with_labels(error: MotionCacheError) -> str:
    """An error in the words of the page."""
    name, colon, rest = str(error).partition(": ")
    return f"{NUMBERS[name]}: {rest}" if colon and name in NUMBERS else str(error)
