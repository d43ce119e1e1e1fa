"""Hooks a user's own SkyReels-V2 diffusion-forcing pipeline, from outside and on this one instance only."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from inspect import signature
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.utils import apply_lora_scale

from motioncache.changes import LatentsWatch, weights_state
from motioncache.compiling import uncompiled
from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.limits import check_batch
from motioncache.patch import Patch
from motioncache.scope import CallScope, check_not_sampling
from motioncache_skyreels.compiled import take_compilers
from motioncache_skyreels.cost import SkyReelsCost
from motioncache_skyreels.foreign import check_transformer
from motioncache_skyreels.guards import VideoSize, check_call, check_chunks, check_end_frame
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.packed import BlockFunctions, after_attention, before_attention, patch_blocks
from motioncache_skyreels.schedule import Matrices
from motioncache_skyreels.video import VideoCalls


class SkyReelsHook:
    """The cache on one pipeline, from `enable_cache` to `disable_cache`.

    Six places are touched, all on instances: the pipeline's call (state lives from its entry to any exit), its
    `prepare_latents` (sizes are checked) and `generate_timestep_matrix` (a window begins, its schedule is known), the
    transformer's `cache_context` (names the CFG branch) and `forward`, and the `forward` of its blocks.
    """

    def __init__(self, pipeline: Any, opener: WindowOpener) -> None:
        check_not_sampling(pipeline)
        self._pipeline = pipeline
        self._opener = opener
        self._transformer = uncompiled(pipeline.transformer)
        self.engine = opener.engine
        self.config: PolicyConfig = opener.config
        self._scope = CallScope()
        self._calls = VideoCalls(self._transformer, opener, self._scope)
        self._patch = Patch()
        self._functions = BlockFunctions(before_attention, after_attention)
        try:
            self._install(pipeline, self._transformer)
        except BaseException:
            self.undo()
            raise

    def _install(self, pipeline: Any, transformer: Any) -> None:
        prepare = partial(self._prepare_latents, pipeline.prepare_latents)
        matrix = partial(self._generate_timestep_matrix, pipeline.generate_timestep_matrix)
        context = partial(self._cache_context, transformer.cache_context)
        forward = apply_lora_scale("attention_kwargs")(self._calls.forward)
        self._patch.set_call(pipeline, self._call)
        self._patch.set_method(pipeline, "prepare_latents", prepare)
        self._patch.set_method(pipeline, "generate_timestep_matrix", matrix)
        self._patch.set_method(transformer, "cache_context", context)
        self._patch.set_forward(transformer, partial(forward, transformer))
        patch_blocks(self._patch, transformer, self._functions)
        take_compilers(self._patch, pipeline.transformer, transformer, self._functions)

    def undo(self) -> None:
        """Take everything out again and free all state."""
        self._patch.undo()
        self._calls.drop()

    @property
    def calibration(self) -> str | None:
        """What velocities are forecast with, in words; None for policies that forecast nothing."""
        return self._opener.calibration

    def cost(self) -> SkyReelsCost:
        """FLOPs of this model."""
        return SkyReelsCost.of(self._transformer, self._calls.text_length)

    def _call(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """One call of the pipeline; what a callback does in between belongs to somebody else."""
        self._check()
        call = signature(original).bind(*args, **kwargs)
        filled = copy(call)
        filled.apply_defaults()
        check_call(self._pipeline, filled.arguments)
        callback = call.arguments.get("callback_on_step_end")
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):  # diffusers asks these for their inputs
            call.arguments["callback_on_step_end_tensor_inputs"] = callback.tensor_inputs
        if callback is not None:
            call.arguments["callback_on_step_end"] = partial(
                self._callback, callback, call.arguments.get("attention_kwargs")
            )
        with self._scope.running():
            try:
                return original(*call.args, **call.kwargs)
            finally:
                self._calls.drop()

    def _callback(self, callback: Any, attention_kwargs: Any, *args: Any) -> Any:
        """A callback, and what follows from what it has changed; it may have turned the cache off as well."""
        weights, latents = weights_state(self._transformer, attention_kwargs), LatentsWatch(args[-1])
        with self._scope.suspended():
            returned = callback(*args)
        if self._patch.forwards:
            self._check()
            if weights_state(self._transformer, attention_kwargs) != weights:
                self._calls.weights_changed()
            if latents.changed(returned):
                self._calls.latents_changed()
        return returned

    def _check(self) -> None:
        """Refuse what has been hung on the pipeline since the cache was enabled."""
        if uncompiled(self._pipeline.transformer) is not self._transformer:
            raise MotionCacheError(
                "the pipeline has another transformer than when the cache was enabled: a "
                f"{type(self._pipeline.transformer).__name__}, on which the cache is not on. Call disable_cache and "
                "enable_cache again"
            )
        check_transformer(self._transformer, self._patch.forwards)
        take_compilers(self._patch, self._pipeline.transformer, self._transformer, self._functions)

    def _prepare_latents(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Called at the start of each window; the first one of a call starts a new video."""
        call = signature(original).bind(*args, **kwargs).arguments
        if not call.get("long_video_iter"):
            size = VideoSize.of_call(self._pipeline, call)
            check_batch(self.config, int(call.get("batch_size", 1)))
            self._calls.start_video(size.windows)
            check_end_frame(size, call.get("last_image"))
            check_chunks(size)
        return original(*args, **kwargs)

    def _generate_timestep_matrix(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Called once per window, right before its loop."""
        result = original(*args, **kwargs)
        matrices = Matrices(
            timesteps=result[0],
            update_mask=result[2],
            valid_interval=result[3],
            prefix_frames=int(signature(original).bind(*args, **kwargs).arguments.get("num_pre_ready", 0)),
        )
        self._calls.start_window(matrices)
        return result

    @contextmanager
    def _cache_context(self, original: Any, name: str, **kwargs: Any) -> Iterator[None]:
        with original(name, **kwargs), self._scope.in_branch(name):
            yield
