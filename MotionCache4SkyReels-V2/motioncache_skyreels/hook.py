"""Hooks a user's own SkyReels-V2 diffusion-forcing pipeline, from outside and on this one instance only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils import apply_lora_scale

from motioncache.config import PolicyConfig
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.guards import VideoSize, check_chunks, check_end_frame
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.packed import TextContext, patch_blocks
from motioncache_skyreels.patch import Patch
from motioncache_skyreels.schedule import Matrices
from motioncache_skyreels.window import BRANCHES, Window


class SkyReelsHook:
    """The cache on one pipeline, from `enable` to `undo`.

    Five places are touched, all on instances: the pipeline's `prepare_latents` (a call begins, sizes are checked) and
    `generate_timestep_matrix` (a window begins, its schedule is known), the transformer's `cache_context` (names the
    CFG branch) and `forward`, and the `forward` of its blocks.
    """

    def __init__(self, pipeline: Any, opener: WindowOpener) -> None:
        self._pipeline = pipeline
        self._transformer = pipeline.transformer
        self._opener = opener
        self.engine = opener.engine
        self._window: Window | None = None
        self._pending: Matrices | None = None
        self._texts: dict[str, TextContext] = {}
        self._windows_left = 0
        self._branch: str | None = None
        self._text_length = 512
        self._patch = Patch()
        try:
            self._install()
        except BaseException:
            self.undo()
            raise

    def _install(self) -> None:
        pipeline, transformer = self._pipeline, self._transformer
        prepare = partial(self._prepare_latents, pipeline.prepare_latents)
        matrix = partial(self._generate_timestep_matrix, pipeline.generate_timestep_matrix)
        context = partial(self._cache_context, transformer.cache_context)
        self._patch.set_attribute(pipeline, "prepare_latents", prepare)
        self._patch.set_attribute(pipeline, "generate_timestep_matrix", matrix)
        self._patch.set_attribute(transformer, "cache_context", context)
        self._patch.set_forward(transformer, partial(apply_lora_scale("attention_kwargs")(self._forward), transformer))
        patch_blocks(self._patch, transformer)

    @property
    def config(self) -> PolicyConfig:
        """The policy's config, with the model's own polynomial where it names none."""
        return self._opener.config

    def undo(self) -> None:
        """Take everything out again and free all state."""
        self._patch.undo()
        self._drop()

    def cost(self) -> SkyReelsCost:
        """FLOPs of this model."""
        return SkyReelsCost.of(self._transformer, self._text_length)

    def _drop(self) -> None:
        self._window = None
        self._pending = None
        self._texts = {}
        self.engine.drop()

    def _prepare_latents(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Called at the start of each window; the first one of a call starts a new video."""
        call = signature(original).bind(*args, **kwargs).arguments
        if not call.get("long_video_iter"):
            self._drop()
            self.engine.start_video()
            size = VideoSize.of_call(self._pipeline, call)
            self._windows_left = size.windows
            check_end_frame(size, call.get("last_image"))
            check_chunks(size)
        return original(*args, **kwargs)

    def _generate_timestep_matrix(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Called once per window, right before its loop; the window is opened at its first forward."""
        result = original(*args, **kwargs)
        self._window = None  # the last one may have been interrupted
        self.engine.end_window()
        self._pending = Matrices(
            timesteps=result[0],
            update_mask=result[2],
            valid_interval=result[3],
            prefix_frames=int(signature(original).bind(*args, **kwargs).arguments.get("num_pre_ready", 0)),
        )
        return result

    @contextmanager
    def _cache_context(self, original: Any, name: str, **kwargs: Any) -> Iterator[None]:
        self._branch = name
        try:
            with original(name, **kwargs):
                yield
        finally:
            self._branch = None

    def _forward(
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
        """The transformer's forward while the cache is on; calls that are not part of a window pass through."""
        outside = self._window is None and self._pending is None
        if outside or not enable_diffusion_forcing or self._branch not in BRANCHES:
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
        try:
            self._text_length = encoder_hidden_states.shape[1]
            window = self._open_window(hidden_states, fps)
            output = window.forward(self._branch, hidden_states, timestep, encoder_hidden_states, fps)
        except BaseException:
            self._drop()
            raise
        if window.finished:
            self._window_finished()
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _open_window(self, hidden_states: torch.Tensor, fps: Sequence[int] | None) -> Window:
        if self._pending is not None:
            matrices, self._pending = self._pending, None
            self._window = self._opener.open(matrices, hidden_states, fps, texts=self._texts, cost=self.cost())
        assert self._window is not None
        return self._window

    def _window_finished(self) -> None:
        """Free what belongs to the window, and after the last one all that belongs to the video."""
        self._window = None
        self._windows_left -= 1
        if self._windows_left > 0:
            self.engine.end_window()
        else:
            self._drop()
