"""Samples a video and hands out its chunks as they become clean, while the rest is being sampled."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from inspect import signature
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache.latents import check_latents
from motioncache_skyreels.chunk_decoder import ChunkDecoder

OUTPUT_TYPES = ("np", "pt", "latent")


def stream(pipeline: Any, *args: Any, output_type: str = "np", **call: Any) -> Generator[Any]:
    """Call a diffusion-forcing pipeline, cached or not, and yield the frames of each chunk as soon as it is clean.

    The pipeline runs in a thread of its own; closing the iterator stops it after the denoise step it is in. All chunks
    together are what the call returns at once.

    Args:
        args, call: of the pipeline's call, which makes one video.
        output_type: of what is yielded: np, float32 `[frames, height, width, 3]` in [0, 1]; pt, `[frames, 3, height,
            width]` in [0, 1]; latent, `[channels, latent_frames, height / 8, width / 8]`.

    Raises:
        MotionCacheError: for another output type, tiled decoding, latents that are not finite, and as the call does.
    """
    if output_type not in OUTPUT_TYPES:
        raise MotionCacheError(f"output_type={output_type!r} cannot be streamed: pass {', '.join(OUTPUT_TYPES)}")
    decoder = None if output_type == "latent" else ChunkDecoder(pipeline)
    return _stream(_Sampling(pipeline, args, call), decoder, output_type)


def _stream(sampling: "_Sampling", decoder: ChunkDecoder | None, output_type: str) -> Generator[Any]:
    for latents in sampling:
        if decoder is None:
            yield latents[0]
        else:
            frames = decoder.decode(latents)
            yield frames.permute(0, 2, 3, 1).numpy() if output_type == "np" else frames


class _StoppedError(Exception):
    """Ends a call whose iterator was closed."""


@dataclass(slots=True)
class _Failure:
    error: BaseException


class _Sampling:
    """A pipeline's call in a thread; iterating yields latents `[1, channels, frames, height, width]` that are clean."""

    def __init__(self, pipeline: Any, args: tuple[Any, ...], call: dict[str, Any]) -> None:
        bound = signature(pipeline.__call__).bind(*args, **call)
        self._pipeline = pipeline
        self._call = {**bound.arguments, "output_type": "latent"}
        self._callback: Callable[..., dict[str, Any]] | None = self._call.pop("callback_on_step_end", None)
        self._tensors: list[str] = self._call.pop("callback_on_step_end_tensor_inputs", ["latents"])
        self._progress = CleanFrames()
        self._found: SimpleQueue[torch.Tensor | _Failure | None] = SimpleQueue()
        self._stop = Event()

    def __iter__(self) -> Iterator[torch.Tensor]:
        thread = Thread(target=self._run, name="motioncache-stream", daemon=True)
        thread.start()
        try:
            while (found := self._found.get()) is not None:
                if isinstance(found, _Failure):
                    raise found.error
                yield found
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            video = self._pipeline(
                **self._call,
                callback_on_step_end=self._step_done,
                callback_on_step_end_tensor_inputs=[*dict.fromkeys([*self._tensors, "latents"])],
            ).frames
            self._hand_out(video[:, :, self._progress.handed_out :])
            self._found.put(None)
        except _StoppedError:
            self._found.put(None)
        except BaseException as error:  # belongs to whoever iterates
            self._found.put(_Failure(error))

    def _step_done(self, pipeline: Any, iteration: int, timesteps: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if self._stop.is_set():
            raise _StoppedError
        changed: dict[str, Any] = {}
        if self._callback is not None:
            given = {name: tensors[name] for name in self._tensors}
            changed = self._callback(pipeline, iteration, timesteps, given)
        latents = changed.get("latents", tensors["latents"])
        last = float(pipeline.scheduler.timesteps[-1])
        self._hand_out(latents[:, :, self._progress.step(iteration, timesteps, last, latents.shape[2])])
        return changed

    def _hand_out(self, latents: torch.Tensor) -> None:
        if latents.shape[0] != 1:
            raise MotionCacheError(f"{latents.shape[0]} videos cannot be streamed at once: pass one prompt")
        if latents.shape[2]:
            check_latents(latents)
            self._found.put(latents.clone())


class CleanFrames:
    """Counts the latent frames of a video that are clean, window by window.

    Attributes:
        handed_out: latent frames of the video that `step` has returned.
    """

    def __init__(self) -> None:
        self.handed_out = 0
        self._first = 0  # latent frame of the video with which the window begins
        self._windows = 0

    def step(self, iteration: int, timesteps: torch.Tensor, last: float, frames: int) -> slice:
        """The latent frames of the window that have become clean.

        Args:
            iteration: of the window.
            timesteps: of its latent frames in this iteration, `[frames]`; 0 for those that were given or are clean.
            last: timestep of the last denoise step.
        """
        clean = int(((timesteps <= last).long().cumprod(0)).sum())
        if iteration == 0:
            given = int(((timesteps == 0).long().cumprod(0)).sum())
            self._first = self.handed_out - given if self._windows else 0
            self._windows += 1
        start = self.handed_out - self._first
        self.handed_out = max(self.handed_out, self._first + clean)
        return slice(min(start, frames), max(clean, start))
