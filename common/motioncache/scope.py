"""What belongs to a call of the pipeline: its thread, but for what callbacks do, and the CFG branch it is in."""

import inspect
import threading
from collections.abc import Generator
from contextlib import contextmanager

from motioncache.errors import MotionCacheError


def check_not_sampling(pipeline: object) -> None:
    """Refuse to enable a cache from inside a call of the pipeline, whose rest it could not serve."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "__call__" and frame.f_locals.get("self") is pipeline:
            raise MotionCacheError(
                "enable_cache was called while this pipeline was sampling a video (in a callback_on_step_end?), and a "
                "cache begins with a video: enable it before the call"
            )
        frame = frame.f_back


class CallScope:
    """Tells the forwards of a call of the pipeline from others on the same transformer.

    Attributes:
        thread: the thread whose forwards belong to the call; None outside of a call, and while a callback runs.
        branch: the CFG branch that the pipeline is in; None outside of its model calls.
    """

    def __init__(self) -> None:
        self.thread: int | None = None
        self.branch: str | None = None
        self._running = False

    @contextmanager
    def running(self) -> Generator[None]:
        """A call of the pipeline, to whichever exit.

        Raises:
            MotionCacheError: if there is one already.
        """
        if self._running:
            raise MotionCacheError(
                "this pipeline is sampling a video already (in another thread, or around the callback that calls it), "
                "and its cache serves one at a time: wait for it, or use a pipeline of its own for each"
            )
        self._running, self.thread = True, threading.get_ident()
        try:
            yield
        finally:
            self._running, self.thread, self.branch = False, None, None

    @contextmanager
    def suspended(self) -> Generator[None]:
        """Whatever happens inside does not belong to the call."""
        thread, self.thread = self.thread, None
        try:
            yield
        finally:
            self.thread = thread

    @contextmanager
    def in_branch(self, name: str) -> Generator[None]:
        """The model calls inside belong to a CFG branch, if they belong to the call."""
        if self.thread != threading.get_ident():
            yield
            return
        self.branch = name
        try:
            yield
        finally:
            self.branch = None
