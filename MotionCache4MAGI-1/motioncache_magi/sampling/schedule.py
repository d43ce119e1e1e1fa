"""When each chunk is denoised, at which time, and what it may see. Pure functions of a few numbers.

Chunks are denoised in a sliding window: a *stage* is a fixed number of steps, and with each stage a new chunk enters at
pure noise while the oldest one, which has gone through all its steps, leaves clean.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import torch

from motioncache.errors import ConfigError
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.sampling.step import KeyRange, Step


class TimeShape(Enum):
    """How evenly spaced positions become times; the released models use `sd3`."""

    sd3 = "sd3"
    square = "square"
    piecewise = "piecewise"
    identity = "identity"


_SHORTCUTS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "8,16,16": ((2, 1, 1), (0, 2 / 16, 3 / 16)),
    "16,16,8": ((1, 1, 2), (0, 1 / 16, 2 / 16)),
}
"""Twelve steps take every quarter in three: lengths of the steps in sixteenths of it, and their positions."""


def time_schedule(
    steps: int, *, shortcut_mode: str = "8,16,16", shape: TimeShape = TimeShape.sd3, shift: float = 3.0
) -> torch.Tensor:
    """Times of the denoise steps and of the end, float32 `[steps + 1]`, from 0 (noise) to 1 (clean)."""
    if steps == 12:
        _, within = _shortcut(shortcut_mode)
        position = torch.tensor([quarter + x for quarter in (0, 0.25, 0.5, 0.75) for x in within] + [1.0])
    else:
        position = torch.linspace(0, 1, steps + 1)
    if shape is TimeShape.identity:
        return position
    if shape is TimeShape.piecewise:
        return torch.where(position < 0.875, position * (0.5 / 0.875), 0.5 + (position - 0.875) * 4)
    square = position**2
    if shape is TimeShape.square:
        return square
    inverse = 1 / shift
    return inverse * square / (1 + (inverse - 1) * square)


def step_intervals(steps: int, shortcut_mode: str = "8,16,16") -> list[int]:
    """Length of each step of a stage in units of the shortest."""
    lengths, _ = _shortcut(shortcut_mode)
    return list(lengths) * (steps // 3) if steps % 3 == 0 else [1] * steps


def _shortcut(mode: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if mode not in _SHORTCUTS:
        raise ConfigError(f"shortcut_mode must be one of {sorted(_SHORTCUTS)}, not {mode!r}")
    return _SHORTCUTS[mode]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSchedule:
    """The steps of a whole video.

    Args:
        chunks: chunks of the video, the prefix included.
        prefix_chunks: chunks that are given whole.
        steps: denoise steps of every chunk.
        window: chunks that are denoised at a time.
        ranges: how many chunks a chunk sees, itself included, from its noisiest steps to its cleanest; empty: all.
        clean_range: how many a refreshed or given chunk sees; -1: as many as a chunk at its cleanest.
    """

    chunks: int
    prefix_chunks: int
    steps: int
    window: int
    ranges: tuple[int, ...]
    clean_range: int
    shortcut_mode: str = "8,16,16"

    @classmethod
    def of(
        cls, config: MagiConfig, *, chunks: int, prefix_frames: int = 0, steps: int | None = None
    ) -> "WindowSchedule":
        """The schedule of a video of a model.

        Args:
            chunks: see the class.
            prefix_frames: latent frames that are given.
            steps: see the class; None takes the model's.
        """
        runtime = config.runtime
        return cls(
            chunks=chunks,
            prefix_chunks=prefix_frames // runtime.chunk_width,
            steps=runtime.num_steps if steps is None else steps,
            window=runtime.window_size,
            ranges=runtime.noise2clean_kvrange,
            clean_range=runtime.clean_chunk_kvrange,
            shortcut_mode=config.engine.shortcut_mode,
        )

    def __post_init__(self) -> None:
        if self.steps % self.window:
            raise ConfigError(
                f"num_inference_steps={self.steps} must be a multiple of the window of {self.window} chunks"
            )
        if self.ranges and self.steps % len(self.ranges):
            raise ConfigError(
                f"num_inference_steps={self.steps} must be a multiple of the {len(self.ranges)} entries of "
                "noise2clean_kvrange"
            )
        if self.prefix_chunks >= self.chunks:
            raise ConfigError(f"{self.prefix_chunks} chunks are given and {self.chunks} asked for: ask for more frames")

    @property
    def stage(self) -> int:
        """Steps of a stage."""
        return self.steps // self.window

    @property
    def starts(self) -> tuple[int, ...]:
        """The first step of each chunk that is denoised."""
        return tuple(range(0, self.stage * (self.chunks - self.prefix_chunks), self.stage))

    @property
    def total(self) -> int:
        return self.stage * (self.chunks - self.prefix_chunks + self.window - 1)

    def __iter__(self) -> Iterator[Step]:
        return (self._step(index) for index in range(self.total))

    def _step(self, index: int) -> Step:
        stage, within = divmod(index, self.stage)
        stage += self.prefix_chunks
        first, end = max(self.prefix_chunks, stage - self.window + 1), min(self.chunks, stage + 1)
        past_the_end = max(0, stage - self.chunks + 1)
        window = range(first, end)
        counts = tuple((past_the_end + end - 1 - chunk) * self.stage + within for chunk in window)
        refreshes = within == 0 and first > self.prefix_chunks
        return Step(
            index=index,
            window=window,
            counts=counts,
            refresh=first - 1 if refreshes else None,
            refresh_range=self._reach(first - 1, self._clean()),
            ranges=tuple(self._reach(c, self._seen(n)) for c, n in zip(window, counts, strict=True)),
            interval=step_intervals(self.steps, self.shortcut_mode)[within],
            finished=first if counts[0] == self.steps - 1 else None,
        )

    def prefix_steps(self) -> Iterator[Step]:
        """Passes before the first step that only compute the keys and values of the given chunks."""
        seen = 8 if not self.ranges and self.clean_range == -1 else self._clean()
        for chunk in range(self.prefix_chunks):
            yield Step(
                index=-1,
                window=range(0),
                counts=(),
                refresh=chunk,
                refresh_range=self._reach(chunk, seen),
                ranges=(),
                interval=1,
                finished=None,
            )

    def oldest_seen(self) -> dict[int, int]:
        """By the index of each step, -1 for the prefix: the oldest chunk that this step or any later one sees."""
        oldest, by_step = self.chunks, {}
        for step in reversed([*self.prefix_steps(), *self]):
            seen = [first for first, _ in step.ranges]
            if step.refresh is not None:
                seen.append(step.refresh_range[0])
            oldest = min([oldest, *seen])
            by_step[step.index] = oldest
        return by_step

    def _clean(self) -> int | None:
        """Chunks that a clean chunk sees; None for all."""
        if not self.ranges:
            return None
        return self.ranges[-1] if self.clean_range == -1 else self.clean_range

    def _seen(self, count: int) -> int | None:
        return self.ranges[count // (self.steps // len(self.ranges))] if self.ranges else None

    @staticmethod
    def _reach(chunk: int, seen: int | None) -> KeyRange:
        return (0 if seen is None else max(0, chunk + 1 - seen), chunk + 1)
