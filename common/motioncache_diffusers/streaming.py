"""Runs a diffusers pipeline in a thread, and hands out its latents as they become clean."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from inspect import signature
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

import torch

from motioncache.errors import MotionCacheError
from motioncache.latents import check_latents

OUTPUT_TYPES = ("np", "pt", "latent")


Decode = Callable[[torch.Tensor], torch.Tensor]
"""A chunk's latents `[1, channels, frames, height, width]` to float frames `[frames, 3, height, width]` in [0, 1]."""


class Clean(Protocol):
    """Knows which latents are clean."""

    def step(self, pipeline: Any, iteration: int, timesteps: Any, latents: torch.Tensor) -> torch.Tensor:
        """Those of `latents`, `[batch, channels, frames, height, width]`, that this step has made clean; often none."""
        ...

    def rest(self, video: torch.Tensor) -> torch.Tensor:
        """Those of the whole video's latents that no step returned."""
        ...


def check_output_type(output_type: str) -> None:
    """Refuse what cannot be handed out chunk by chunk."""
    if output_type not in OUTPUT_TYPES:
        raise MotionCacheError(f"output_type={output_type!r} cannot be streamed: pass {', '.join(OUTPUT_TYPES)}")


class Sampling:
    """A pipeline's call in a thread; `chunks` hands out what is clean.

    Chunks are decoded in that thread, too, as the autoencoder has state of which a call makes use.

    Args:
        args, call: of the pipeline's call. A callback of its own is still called, and may change the latents.
        decode: None hands out latents.
    """

    def __init__(
        self, pipeline: Any, args: tuple[Any, ...], call: dict[str, Any], *, clean: Clean, decode: Decode | None
    ) -> None:
        bound = signature(pipeline.__call__).bind(*args, **call)
        self._pipeline = pipeline
        self._call = {**bound.arguments, "output_type": "latent"}
        self._callback: Callable[..., dict[str, Any]] | None = self._call.pop("callback_on_step_end", None)
        self._tensors: list[str] = self._call.pop("callback_on_step_end_tensor_inputs", ["latents"])
        self._clean = clean
        self._decode = decode
        self._found: SimpleQueue[torch.Tensor | _Failure | None] = SimpleQueue()
        self._stop = Event()

    def chunks(self, output_type: str) -> Generator[Any]:
        """Run the call, and yield its chunks; closing this ends the call after the step that it is in."""
        for chunk in self._results():
            yield chunk.permute(0, 2, 3, 1).numpy() if output_type == "np" else chunk

    def _results(self) -> Iterator[torch.Tensor]:
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
            self._hand_out(self._clean.rest(video))
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
        self._hand_out(self._clean.step(pipeline, iteration, timesteps, latents))
        return changed

    def _hand_out(self, latents: torch.Tensor) -> None:
        if latents.shape[0] != 1:
            raise MotionCacheError(f"{latents.shape[0]} videos cannot be streamed at once: pass one prompt")
        if latents.shape[2]:
            check_latents(latents)
            self._found.put(latents[0].clone() if self._decode is None else self._decode(latents))


class _StoppedError(Exception):
    """Ends a call whose iterator was closed."""


@dataclass(slots=True)
class _Failure:
    error: BaseException
