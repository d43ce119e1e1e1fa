"""Which branches a model call needs, and how their velocities are joined."""

from dataclasses import dataclass

import torch

from motioncache_magi.model.config import MagiConfig
from motioncache_magi.sampling.kv_layout import ALONE, NEARLY_CLEAN, PAST, TEXT
from motioncache_magi.sampling.step import KeyRange, Step

Velocities = dict[tuple[str, int], torch.Tensor]
"""Velocities by branch and chunk, `[due, values of a patch]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Weights of a chunk's guidance at one time: velocity = (1 - past) U + (past - text) B + text A.

    A sees the text and the past, B the past alone, U neither.
    """

    past: float
    text: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """Guidance by time (base models), or none but that of the nearly clean chunk (distilled models).

    Args:
        distilled: the model carries its guidance inside: one branch.
        times, past, text: scales from each time on.
        nearly_clean_from: above this time the oldest chunk of a distilled model is also computed without its past.
        nearly_clean_weight: share of the velocity with the past; the rest is the one without.
    """

    distilled: bool
    times: tuple[float, ...]
    past: tuple[float, ...]
    text: tuple[float, ...]
    nearly_clean_from: float
    nearly_clean_weight: float = 0.7

    @classmethod
    def of(cls, config: MagiConfig) -> "Guidance":
        runtime = config.runtime
        return cls(
            distilled=runtime.cfg_number == 1,
            times=runtime.cfg_t_range,
            past=runtime.prev_chunk_scales,
            text=runtime.text_scales,
            nearly_clean_from=config.engine.distill_nearly_clean_chunk_threshold,
        )

    def scales(self, t: float) -> Scales:
        """The scales at a time."""
        index = int(torch.searchsorted(torch.tensor(self.times) - 1e-7, torch.tensor(t))) - 1  # float32
        return Scales(past=self.past[index], text=self.text[index])

    def repeats_nearly_clean(self, t: float) -> bool:
        """Whether the oldest chunk, at time `t`, is computed a second time without its past."""
        return self.distilled and t > self.nearly_clean_from


def join_branches(
    guidance: Guidance, velocities: Velocities, chunk: int, t: float, due: bool | torch.Tensor
) -> torch.Tensor:
    """The guided velocity of a chunk's due tokens at a time, `[due, values]`."""
    if guidance.distilled:
        velocity = velocities[TEXT, chunk]
        if (NEARLY_CLEAN, chunk) not in velocities:
            return velocity
        again = velocities[NEARLY_CLEAN, chunk]  # all tokens
        again = again[due] if isinstance(due, torch.Tensor) else again
        return guidance.nearly_clean_weight * velocity + (1 - guidance.nearly_clean_weight) * again
    scales = guidance.scales(t)
    guided = (scales.past - scales.text) * velocities[PAST, chunk]
    if scales.text != 0:
        guided = guided + scales.text * velocities[TEXT, chunk]
    if scales.past != 1:
        guided = guided + (1 - scales.past) * velocities[ALONE, chunk]
    return guided


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One chunk in one branch.

    Attributes:
        seen: chunks that it sees; its own place alone for a branch without a past.
        refresh: whether it is clean, and computed for its keys and values alone. It attends to the null text in every
            branch, also in the one with text: the official loop passes the null text for a clean chunk (section 4.3
            of its specification, item 2), and no golden video agrees with a caption in its place.
    """

    branch: str
    chunk: int
    t: float
    seen: KeyRange
    refresh: bool = False

    @property
    def chunks_seen(self) -> int:
        return self.seen[1] - self.seen[0]


def passes_of(step: Step, times: list[float], guidance: Guidance, clean_time: float) -> list[Pass]:
    """Everything that a step computes.

    Args:
        times: times of all denoise steps of a chunk.
    """
    window = list(zip(step.window, (times[count] for count in step.counts), step.ranges, strict=True))
    passes: list[Pass] = []
    for branch in _branches_with_past(guidance, [t for _, t, _ in window]):
        if step.refresh is not None:
            seen = step.refresh_range
            passes.append(Pass(branch=branch, chunk=step.refresh, t=clean_time, seen=seen, refresh=True))
        passes += [Pass(branch=branch, chunk=chunk, t=t, seen=seen) for chunk, t, seen in window]
    for chunk, t, _ in window:
        own = (chunk, chunk + 1)
        if guidance.distilled and chunk == step.window[0] and guidance.repeats_nearly_clean(t):
            passes.append(Pass(branch=NEARLY_CLEAN, chunk=chunk, t=t, seen=own))
        if not guidance.distilled and guidance.scales(t).past != 1:
            passes.append(Pass(branch=ALONE, chunk=chunk, t=t, seen=own))
    return passes


def _branches_with_past(guidance: Guidance, times: list[float]) -> tuple[str, ...]:
    """A noisier chunk with text attends to the cleaner ones with text, so that branch runs for all chunks or none."""
    if guidance.distilled:
        return (TEXT,)
    return (TEXT, PAST) if any(guidance.scales(t).text != 0 for t in times) else (PAST,)


def deciding_branch(guidance: Guidance) -> str:
    """The branch that always runs, whose decisions the others share."""
    return TEXT if guidance.distilled else PAST


def branches_of(guidance: Guidance) -> tuple[str, ...]:
    """All branches that a video can need."""
    return (TEXT, NEARLY_CLEAN) if guidance.distilled else (PAST, TEXT, ALONE)
