"""What was done with one chunk at one iteration, and the window that it belongs to."""

from dataclasses import dataclass
from enum import Enum

import torch

from motioncache.grid import TokenGrid


class Phase(Enum):
    """Why a chunk was handled as it was."""

    prefix = "prefix"
    """Given latents: computed once, for their keys and values."""
    finished = "finished"
    """The chunk has just finished: its clean latents are computed once, for their keys and values."""
    idle = "idle"
    """A chunk that does not denoise is computed along with the others, by a method that knows no chunks."""
    uncached = "uncached"
    """The policy computes every step (the preset `exact`)."""
    warmup = "warm-up"
    chunk = "chunk phase"
    token = "token phase"
    forecast = "forecast"
    """Planned before sampling; where a chunk is not computed, its velocity is forecast."""
    guidance = "guidance"
    """Tokens of a chunk once more in another branch of guidance, by a decision that is recorded by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastError:
    """The forecast of a step that was computed after all, with those that had been computed before it.

    Attributes:
        found: squared error over squared velocity, a scalar on the device.
        expected: the same, by the calibration.
    """

    found: torch.Tensor
    expected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One chunk of one CFG branch at one iteration.

    Attributes:
        step: the chunk's own denoise step, from 0; -1 for `prefix`, `finished` and `idle`.
        tokens: tokens of the chunk, for one element of the batch.
        candidates: tokens over the threshold, after the vote and before the minimum update ratio.
        computed: tokens that ran through the blocks.
        attended: tokens of the range that the computed tokens attend to.
        due: indices within the chunk of the computed tokens, int64 on the host; None where all or none were.
    """

    window: int
    iteration: int
    chunk: int
    branch: str
    step: int
    phase: Phase
    tokens: int
    candidates: int
    computed: int
    attended: int
    due: torch.Tensor | None = None

    @property
    def denoises(self) -> bool:
        """Whether this was a decision about a denoise step, not a pass that comes with it."""
        return self.phase not in (Phase.prefix, Phase.finished, Phase.idle, Phase.guidance)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShape:
    """One window of a video as the sampler walks through it.

    Attributes:
        iterations: model calls per CFG branch.
        branches: CFG branches.
        causal: whether a chunk attends to its own and earlier chunks only.
        calls: model calls that were made, all branches together; None where the window has not been sampled. They are
            fewer where a call was interrupted or guidance switched off.
    """

    grid: TokenGrid
    iterations: int
    branches: tuple[str, ...]
    causal: bool
    calls: int | None = None

    @property
    def model_calls(self) -> int:
        """Model calls of all branches."""
        return self.iterations * len(self.branches) if self.calls is None else self.calls
