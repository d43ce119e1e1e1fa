"""The model calls of one video, and what runs them."""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from motioncache.errors import MotionCacheError
from motioncache.scope import CallScope
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.packed import TextContext
from motioncache_skyreels.schedule import Matrices
from motioncache_skyreels.window import BRANCHES, Window


class VideoCalls:
    """Stands in for the transformer's forward while the cache is on.

    Attributes:
        text_length: tokens to which prompts are padded.
    """

    def __init__(self, transformer: SkyReelsV2Transformer3DModel, opener: WindowOpener, scope: CallScope) -> None:
        self._transformer = transformer
        self._opener = opener
        self._engine = opener.engine
        self._scope = scope
        self._window: Window | None = None
        self._matrices: Matrices | None = None
        self._texts: dict[str, TextContext] = {}
        self._windows_left = 0
        self.text_length = 512

    def start_video(self, windows: int) -> None:
        """A call of the pipeline begins, which samples so many windows; the last one has left nothing."""
        self._engine.start_video()
        self._windows_left = windows

    def start_window(self, matrices: Matrices) -> None:
        """A window begins; it is opened at its first forward."""
        self._window = None  # the last one may have been interrupted
        self._engine.end_window()
        self._matrices = matrices

    def latents_changed(self) -> None:
        """Between two iterations somebody has changed latents."""
        if self._window is not None:
            self._window.latents_changed()

    def weights_changed(self) -> None:
        """Between two iterations somebody has changed weights of the transformer."""
        self._texts.clear()
        if self._window is not None:
            self._window.weights_changed()

    def drop(self) -> None:
        """Free all that belongs to the video."""
        self._window = None
        self._matrices = None
        self._texts = {}
        self._engine.drop()

    def forward(
        self,
        transformer: SkyReelsV2Transformer3DModel,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_hidden_states_image: torch.Tensor | None = None,
        enable_diffusion_forcing: bool = False,
        fps: Sequence[int] | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The transformer's forward; calls that are not part of a window pass through."""
        branch = self._scope.branch if self._scope.thread == threading.get_ident() else None
        outside = self._window is None and self._matrices is None
        if outside or not enable_diffusion_forcing or branch not in BRANCHES:
            return type(transformer).forward(
                transformer,
                hidden_states,
                timestep,
                encoder_hidden_states,
                encoder_hidden_states_image=encoder_hidden_states_image,
                enable_diffusion_forcing=enable_diffusion_forcing,
                fps=fps,
                return_dict=return_dict,
                attention_kwargs=attention_kwargs,
            )
        if encoder_hidden_states_image is not None:
            raise MotionCacheError(
                "encoder_hidden_states_image was passed, which no diffusion-forcing pipeline of SkyReels-V2 does, and "
                "which the cache does not know: leave it out"
            )
        self.text_length = encoder_hidden_states.shape[1]
        window = self._current_window(hidden_states, fps)
        output = window.forward(branch, hidden_states, timestep, encoder_hidden_states, fps)
        if window.finished:
            self._window_finished()
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _current_window(self, hidden_states: torch.Tensor, fps: Sequence[int] | None) -> Window:
        if self._matrices is not None:
            matrices, self._matrices = self._matrices, None
            cost = SkyReelsCost.of(self._transformer, self.text_length)
            self._window = self._opener.open(matrices, hidden_states, fps, texts=self._texts, cost=cost)
        assert self._window is not None
        return self._window

    def _window_finished(self) -> None:
        """Free what belongs to the window, and after the last one all that belongs to the video."""
        self._window = None
        self._windows_left -= 1
        if self._windows_left > 0:
            self._engine.end_window()
        else:
            self.drop()
