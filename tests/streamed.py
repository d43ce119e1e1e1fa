"""Streams a video where a test calls a pipeline."""

from typing import Any

import motioncache


class Streamed:
    """Stands where `generate` calls a pipeline, and keeps the chunks in place of the whole."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def __call__(self, **call: Any) -> "Streamed":
        self.frames = list(motioncache.stream(self._pipeline, **call))
        return self
