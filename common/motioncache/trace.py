"""A record of what was computed: one entry per iteration, chunk and CFG branch."""

from collections.abc import Iterator
from dataclasses import dataclass, field
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
    """The policy computes every step (the `exact` tier)."""
    warmup = "warm-up"
    chunk = "chunk phase"
    token = "token phase"
    forecast = "forecast"
    """By a plan; where a chunk is not computed, its velocity is forecast."""
    guidance = "guidance"
    """Tokens of a chunk once more in another branch of guidance, by a decision that is recorded by itself."""


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
    """

    grid: TokenGrid
    iterations: int
    branches: tuple[str, ...]
    causal: bool


@dataclass(slots=True)
class Trace:
    """The records of one video, in the order in which they were made, and the shapes of its windows."""

    records: list[Record] = field(default_factory=list[Record])
    windows: list[WindowShape] = field(default_factory=list[WindowShape])

    def denoise_records(self) -> Iterator[Record]:
        """The records of decisions about denoise steps."""
        return (record for record in self.records if record.denoises)

    @property
    def computed_share(self) -> float:
        """Share of the denoise steps' tokens that ran through the blocks. Passes for keys and values alone do not count
        here, but in the FLOPs."""
        total = sum(record.tokens for record in self.denoise_records())
        computed = sum(record.computed for record in self.denoise_records())
        return computed / total if total else 0.0

    @property
    def hit_ratio(self) -> float:
        """Share of the denoise steps' tokens that reused their residual."""
        return 1 - self.computed_share if self.records else 0.0
