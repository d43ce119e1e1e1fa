"""What one model call computes: which chunks, in which branches of guidance, at which times, and what they see."""

from dataclasses import dataclass

from motioncache_magi.sampling.guidance import Guidance
from motioncache_magi.sampling.kv_layout import ALONE, NEARLY_CLEAN, PAST, TEXT
from motioncache_magi.sampling.schedule import KeyRange, Step


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
