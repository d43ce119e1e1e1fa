"""The extension point for tools that look on while a video is sampled, or replace a value."""

import torch

from motioncache.decision import ChunkState, Decision
from motioncache.record import WindowShape


class Probe:
    """A tool that looks on while a video is sampled, or replaces what was computed; set as `Engine.probe`.

    Override what is needed: every method here does nothing.
    """

    def window_started(self, window: WindowShape) -> None:
        """A window begins."""

    def computed(self, decision: Decision, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """See `Engine.complete` for the arguments; what is returned is taken for `after`."""
        return after

    def committed(self, decision: Decision, state: ChunkState) -> None:
        """A chunk has been committed; `state` is what is remembered of it now."""
