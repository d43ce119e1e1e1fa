"""The model calls of one video, and what runs them."""

import threading
from dataclasses import dataclass
from inspect import signature
from math import ceil
from typing import Any

import torch
from diffusers import HeliosTransformer3DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from motioncache.changes import version_of
from motioncache.scope import CallScope
from motioncache_helios.blocks import Text
from motioncache_helios.cost import HeliosCost, HistoryTokens
from motioncache_helios.embedding import History
from motioncache_helios.opening import WindowOpener
from motioncache_helios.window import BRANCHES, Window

_FORWARD = signature(HeliosTransformer3DModel.forward)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the pipeline passes it; another object, or another version of it, is another prompt."""

    source: torch.Tensor
    version: int
    text: Text

    def holds(self, source: torch.Tensor) -> bool:
        """Whether these embeddings are still those that `text` was made of."""
        return self.source is source and self.version == version_of(source)


class VideoCalls:
    """Stands in for the transformer's forward while the cache is on."""

    def __init__(self, transformer: HeliosTransformer3DModel, opener: WindowOpener, scope: CallScope) -> None:
        self._transformer = transformer
        self._opener = opener
        self._scope = scope
        self._window: Window | None = None
        self._chunk_begins = False
        self._follows = False
        self._prompts: dict[str, Prompt] = {}
        self._text_length = 512
        self._history = HistoryTokens()

    def start_video(self, *, given: bool) -> None:
        """A call of the pipeline begins.

        Args:
            given: whether it goes on from an image or a video.
        """
        self._opener.engine.start_video()
        self._follows = given

    def start_chunk(self) -> None:
        """A chunk begins; its window is opened at its first forward. Nothing is left of the chunk before it."""
        self._follows = self._follows or bool(self._opener.engine.trace.windows)
        self._end_window()
        self._chunk_begins = True

    def weights_changed(self) -> None:
        """Between two steps somebody has changed weights of the transformer."""
        self._prompts.clear()
        if self._window is not None:
            self._window.inputs_changed("the weights or adapters of the transformer changed")

    def drop(self) -> None:
        """Free all that belongs to the video; the trace stays."""
        self._prompts = {}
        self._chunk_begins = False
        self._end_window()

    def cost(self) -> HeliosCost:
        """FLOPs of this model on inputs of the last video's sizes."""
        return HeliosCost.of(self._transformer, self._text_length, self._history)

    def forward(self, transformer: HeliosTransformer3DModel, *args: Any, **kwargs: Any) -> Any:
        """The transformer's forward; calls that are not part of a chunk pass through."""
        branch = self._scope.branch if self._scope.thread == threading.get_ident() else None
        if branch not in BRANCHES or (self._window is None and not self._chunk_begins):
            return type(transformer).forward(transformer, *args, **kwargs)
        call = _FORWARD.bind(transformer, *args, **kwargs)
        call.apply_defaults()
        latents, source = call.arguments["hidden_states"], call.arguments["encoder_hidden_states"]
        if self._chunk_begins:
            self._open(latents, History.of_call(call.arguments), source.shape[1])
        window = self._window
        assert window is not None
        text = self._embed_text(window, branch, source)
        output = window.forward(branch, latents, call.arguments["timestep"], text)
        if window.finished:
            self._end_window()
        return Transformer2DModelOutput(sample=output) if call.arguments["return_dict"] else (output,)

    def _open(self, latents: torch.Tensor, history: History, text_length: int) -> None:
        self._chunk_begins = False
        self._text_length = text_length
        self._history = count_tokens(history, self._transformer.config.patch_size)
        self._window = self._opener.open(latents, history, self.cost(), follows=self._follows)

    def _embed_text(self, window: Window, branch: str, source: torch.Tensor) -> Text:
        """A branch's prompt, embedded once for all chunks of a video."""
        prompt = self._prompts.get(branch)
        if prompt is not None and prompt.holds(source):
            return prompt.text
        if prompt is not None:
            window.inputs_changed(f"the prompt embeddings of the {branch} branch changed")
        text = Text(self._transformer.condition_embedder.text_embedder(source))
        self._prompts[branch] = Prompt(source, version_of(source), text)
        return text

    def _end_window(self) -> None:
        self._window = None
        self._opener.engine.end_window()


def count_tokens(history: History, patch: tuple[int, int, int]) -> HistoryTokens:
    """Tokens of each part of a history, padding included."""

    def count(latents: torch.Tensor, factor: int) -> int:
        frames, height, width = (
            ceil(size / (side * factor)) for size, side in zip(latents.shape[2:], patch, strict=True)
        )
        return frames * height * width

    return HistoryTokens(short=count(history.short, 1), mid=count(history.mid, 2), long=count(history.long, 4))
