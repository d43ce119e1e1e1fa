"""Makes one video, and tells how far it is: chunks as they become clean, decisions as they are made."""

import time
from base64 import b64encode
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.api import cached, get_hook
from motioncache.engine import Engine
from motioncache.errors import MotionCacheError
from motioncache.summary import ForecastErrors, forecast_errors
from motioncache.trace import Trace
from motioncache_eval.jobs import LoadedJob
from motioncache_eval.motion_map import MotionRecorder
from motioncache_eval.outputs import RunFolder, write_video
from motioncache_eval.page.view import chunks_of, decisions, make_overlay, make_view
from motioncache_eval.sampling import Sample
from motioncache_eval.studio.history import PAGE, VIDEO, abandon_entry, begin_entry, complete_entry
from motioncache_eval.studio.models import Wanted
from motioncache_eval.studio.pages import write_video_page
from motioncache_eval.video import to_uint8

TURN = 0.5
"""Seconds after which progress is told again, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a video is.

    Attributes:
        entry: its name in the history.
        share: of the model calls that are done.
        parts: the chunks that can be watched, names of files in the folder.
        decisions: see `page.view.decisions`; empty without a cache.
        weighed: the parts whose frames have motion weights, see `Making.weights`.
        errors: how far forecasts were off until now; None where none was followed by a computed step.
        finished: the folder of the history, when the video is whole or was stopped.
    """

    entry: str
    folder: Path
    share: float
    seconds: float
    parts: tuple[str, ...]
    decisions: list[list[float]]
    weighed: tuple[int, ...] = ()
    errors: ForecastErrors | None = None
    finished: Path | None = None

    @property
    def seconds_left(self) -> float | None:
        return self.seconds / self.share * (1 - self.share) if self.share > 0 else None


class Making:
    """One video in the making: iterate to make it, call `stop` from elsewhere to end it with the chunks it has.

    Args:
        flops: without a cache, if they are known; the figures of a video that is made without one.
    """

    def __init__(self, loaded: LoadedJob, wanted: Wanted, output: Path, flops: int | None = None) -> None:
        self._loaded = loaded
        self._wanted = replace(wanted, job=loaded.job)  # in which the model has filled what was left open
        self._output = output
        self._flops = flops
        self._stop = Event()
        self._events: SimpleQueue[torch.Tensor | _Finished | BaseException] = SimpleQueue()
        self._recorder = MotionRecorder(loaded.branch)
        self._share = 0.0
        self._frames: list[NDArray[np.uint8]] = []
        self._parts: list[str] = []
        self._engine: Engine | None = None
        self._started = 0.0

    def stop(self) -> None:
        """End the video after the model call that is running."""
        self._stop.set()

    def __iter__(self) -> Iterator[Progress]:
        with begin_entry(self._output, self._wanted) as run:
            self._started = time.perf_counter()
            thread = Thread(target=self._sample, name="motioncache-studio", daemon=True)
            thread.start()
            try:
                yield from self._follow(run)
            except BaseException:
                if not self._parts:
                    abandon_entry(run)
                raise
            finally:
                self._stop.set()
                thread.join()

    def weights(self, part: int) -> dict[str, object] | None:
        """The last motion weights over the frames of a chunk that can be watched; None if it has none.

        Returns `grid`, the latent frames, rows and columns, and `weight`, bytes in Base64, of which 255 stands for 1.
        """
        trace, place = self._trace, self._places().get(part)
        found = None if place is None else self._recorder.last_weights().get(place)
        if trace is None or place is None or found is None:
            return None
        grid = trace.windows[place[0]].grid
        values = (found.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
        return {"grid": [grid.chunk_frames, grid.height, grid.width], "weight": b64encode(values.tobytes()).decode()}

    def _places(self) -> dict[int, tuple[int, int]]:
        """Window and chunk of each part, which come in the order of the chunks that are denoised."""
        return {} if self._trace is None else dict(zip(range(len(self._parts)), chunks_of(self._trace), strict=False))

    def _follow(self, run: RunFolder) -> Generator[Progress]:
        while True:
            try:
                event = self._events.get(timeout=TURN)
            except Empty:
                yield self._progress(run)
                continue
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, _Finished):
                yield self._finish(run, event)
                return
            self._add_part(run, to_uint8(event))
            yield self._progress(run)

    def _sample(self) -> None:
        """Sample the video; runs in a thread, which tells everything through the queue."""
        try:
            self._events.put(self._sampled())
        except BaseException as error:  # belongs to whoever iterates
            self._events.put(error)

    def _sampled(self) -> "_Finished":
        pipeline, job, policy = self._loaded.pipeline, self._loaded.job, self._wanted.policy
        pipeline.set_progress_bar_config(disable=True)
        stopped = False
        cache = nullcontext() if policy is None else cached(pipeline, policy, adapter=self._loaded.adapter)
        with cache as statistics:
            if policy is not None:
                hook = get_hook(pipeline)
                self._recorder.attach(hook)
                self._engine = hook.engine
            try:
                for frames in self._loaded.stream(pipeline, job, self._step_done):
                    self._events.put(frames)
            except _StoppedError:
                stopped = True
            seconds = time.perf_counter() - self._started
        summary = None if statistics is None else statistics.summary()
        sample = Sample(latents=torch.empty(0), seconds=seconds, summary=summary, trace=self._trace)
        return _Finished(sample=sample, stopped=stopped)

    @property
    def _trace(self) -> Trace | None:
        """What was computed until now, which begins anew with each call of the pipeline."""
        return None if self._engine is None else self._engine.trace

    def _step_done(self, share: float) -> None:
        self._share = share
        if self._stop.is_set():
            raise _StoppedError

    def _add_part(self, run: RunFolder, frames: NDArray[np.uint8]) -> None:
        name = f"part-{len(self._parts):03d}.mp4"
        write_video(run.path / name, frames, fps=self._wanted.job.fps)
        self._frames.append(frames)
        self._parts.append(name)

    def _progress(self, run: RunFolder, finished: Path | None = None) -> Progress:
        trace, weights = self._trace, self._recorder.last_weights()
        return Progress(
            entry=run.final.name,
            folder=run.path,
            share=1.0 if finished else self._share,
            seconds=time.perf_counter() - self._started,
            parts=tuple(self._parts),
            decisions=[] if trace is None else decisions(trace),
            weighed=tuple(part for part, place in self._places().items() if place in weights),
            errors=None if trace is None else forecast_errors(trace),
            finished=finished,
        )

    def _finish(self, run: RunFolder, event: "_Finished") -> Progress:
        if not self._frames:
            raise MotionCacheError("stopped before the first chunk was clean; nothing is kept")
        frames = np.concatenate(self._frames)
        report = complete_entry(run, self._wanted, event.sample, frames, stopped=event.stopped, flops=self._flops)
        write_video_page(run.path / PAGE, report, self._view(frames, event.sample.trace))
        write_video(run.path / f"{VIDEO}.mp4", frames, fps=self._wanted.job.fps)
        return self._progress(run, finished=run.complete())

    def _view(self, frames: NDArray[np.uint8], trace: Trace | None) -> dict[str, Any]:
        whole = trace is not None and len(frames) == self._wanted.job.num_frames
        overlay = make_overlay(trace, self._recorder.weights()) if trace is not None and whole else None
        return make_view(frames, fps=self._wanted.job.fps, trace=trace, overlay=overlay)


class _StoppedError(Exception):
    """Ends the sampling of a video that nobody waits for any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished:
    sample: Sample
    stopped: bool
