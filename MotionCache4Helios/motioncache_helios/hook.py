"""Hooks a user's own Helios pipeline, from outside and on this one instance only."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from inspect import signature
from typing import Any

from diffusers import HeliosTransformer3DModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.models.transformers.transformer_helios import HeliosTransformerBlock
from diffusers.utils import apply_lora_scale

from motioncache.changes import weights_state
from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.limits import check_batch, check_limits
from motioncache.patch import Patch
from motioncache.scope import CallScope, check_not_sampling
from motioncache_helios.blocks import Rows, run_block
from motioncache_helios.cost import HeliosCost
from motioncache_helios.foreign import check_transformer
from motioncache_helios.opening import WindowOpener
from motioncache_helios.video import VideoCalls

GIVEN = ("image", "image_latents", "video", "video_latents")
"""Arguments of a call that goes on from something."""


class HeliosHook:
    """The cache on one pipeline, from `enable_cache` to `disable_cache`.

    Five places are touched, all on instances: the pipeline's call (state lives from its entry to any exit) and its
    `prepare_latents` (a chunk begins), the transformer's `cache_context` (names the CFG branch) and `forward`, and the
    `forward` of its blocks.
    """

    def __init__(self, pipeline: Any, opener: WindowOpener) -> None:
        check_not_sampling(pipeline)
        self._pipeline = pipeline
        self._opener = opener
        self._transformer: HeliosTransformer3DModel = pipeline.transformer
        self.engine = opener.engine
        self.config: PolicyConfig = opener.config
        self._scope = CallScope()
        self._calls = VideoCalls(self._transformer, opener, self._scope)
        self._patch = Patch()
        try:
            self._install(pipeline, self._transformer)
        except BaseException:
            self.undo()
            raise

    def _install(self, pipeline: Any, transformer: Any) -> None:
        forward = apply_lora_scale("attention_kwargs")(self._calls.forward)
        self._patch.set_call(pipeline, self._call)
        self._patch.set_method(pipeline, "prepare_latents", partial(self._prepare_latents, pipeline.prepare_latents))
        self._patch.set_method(transformer, "cache_context", partial(self._cache_context, transformer.cache_context))
        self._patch.set_forward(transformer, partial(forward, transformer))
        for block in transformer.blocks:
            self._patch.set_forward(block, partial(_block_forward, block))

    def undo(self) -> None:
        """Take everything out again and free all state."""
        self._patch.undo()
        self._calls.drop()

    @property
    def calibration(self) -> str | None:
        """What velocities are forecast with, in words; None for policies that forecast nothing."""
        return self._opener.calibration

    def cost(self) -> HeliosCost:
        """FLOPs of this model."""
        return self._calls.cost()

    def _call(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """One call of the pipeline; what a callback does in between belongs to somebody else."""
        self._check()
        call = signature(original).bind(*args, **kwargs)
        filled = copy(call)
        filled.apply_defaults()
        check_limits(filled.arguments)
        callback = call.arguments.get("callback_on_step_end")
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):  # diffusers asks these for their inputs
            call.arguments["callback_on_step_end_tensor_inputs"] = callback.tensor_inputs
        if callback is not None:
            call.arguments["callback_on_step_end"] = partial(
                self._callback, callback, call.arguments.get("attention_kwargs")
            )
        with self._scope.running():
            self._calls.start_video(given=any(filled.arguments[name] is not None for name in GIVEN))
            try:
                return original(*call.args, **call.kwargs)
            finally:
                self._calls.drop()

    def _callback(self, callback: Any, attention_kwargs: Any, *args: Any) -> Any:
        """A callback, and what follows from what it has changed; it may have turned the cache off as well."""
        weights = weights_state(self._transformer, attention_kwargs)
        with self._scope.suspended():
            returned = callback(*args)
        if self._patch.forwards:
            self._check()
            if weights_state(self._transformer, attention_kwargs) != weights:
                self._calls.weights_changed()
        return returned

    def _check(self) -> None:
        """Refuse what has been hung on the pipeline since the cache was enabled."""
        if self._pipeline.transformer is not self._transformer:
            raise MotionCacheError(
                "the pipeline has another transformer than when the cache was enabled: a "
                f"{type(self._pipeline.transformer).__name__}, on which the cache is not on. Call disable_cache and "
                "enable_cache again"
            )
        check_transformer(self._transformer, self._patch.forwards)

    def _prepare_latents(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Called at the start of each chunk."""
        check_batch(self.config, int(signature(original).bind(*args, **kwargs).arguments.get("batch_size", 1)))
        self._calls.start_chunk()
        return original(*args, **kwargs)

    @contextmanager
    def _cache_context(self, original: Any, name: str, **kwargs: Any) -> Iterator[None]:
        with original(name, **kwargs), self._scope.in_branch(name):
            yield


def _block_forward(block: HeliosTransformerBlock, *args: Any, **kwargs: Any) -> Any:
    """Rows come with `Rows`; any other call is the block's own."""
    if len(args) == 3 and isinstance(args[1], Rows):
        return run_block(block, *args)
    return type(block).forward(block, *args, **kwargs)
