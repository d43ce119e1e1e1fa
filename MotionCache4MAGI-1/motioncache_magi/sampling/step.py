"""One denoise step of the window, as the schedule lays it out."""

from dataclasses import dataclass

KeyRange = tuple[int, int]
"""Chunks `[first, end)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One denoise step of the window.

    Attributes:
        index: number of the step.
        window: the chunks that are denoised, oldest first.
        counts: denoise steps that each of them has behind it.
        refresh: a chunk that has just become clean, whose keys and values are computed once more; None otherwise.
        refresh_range: what the refreshed chunk sees.
        ranges: what each chunk of the window sees.
        interval: length of the step, see `step_intervals`.
        finished: the chunk that this step makes clean; None otherwise.
    """

    index: int
    window: range
    counts: tuple[int, ...]
    refresh: int | None
    refresh_range: KeyRange
    ranges: tuple[KeyRange, ...]
    interval: int
    finished: int | None

    @property
    def chunks(self) -> list[int]:
        """All chunks that this step touches, in order."""
        return [*([] if self.refresh is None else [self.refresh]), *self.window]


def distilled_step_size(steps: int, interval: int) -> float:
    """What distilled models are told of a step's length: 8 over its length in sixteenths."""
    return 8 / interval if steps == 12 else steps / 4 * 2
