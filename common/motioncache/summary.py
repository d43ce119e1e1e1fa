"""A summary of one video: per chunk what was computed and reused, FLOPs, hit ratio."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch

from motioncache.record import Record, WindowShape
from motioncache.trace import Trace


class Cost(Protocol):
    """FLOPs of a model in closed form; given by the adapter."""

    def video(self, trace: Trace) -> int: ...

    def vanilla(self, windows: Iterable[WindowShape], *, dense: bool = True) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSummary:
    """Denoise steps of one chunk, both CFG branches together: how many were computed in full, in part, or reused."""

    window: int
    chunk: int
    full: int
    partial: int
    reused: int
    computed_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastErrors:
    """How far forecasts of steps that were computed after all would have been off.

    Attributes:
        expected, found: root of the mean over steps of squared error over squared velocity, by the calibration and in
            the video.
        count: the steps, each of one chunk.
    """

    expected: float
    found: float
    count: int

    def __str__(self) -> str:
        return (
            f"forecasts were off by {self.found:.1%}, {self.expected:.1%} expected, at {self.count} steps that were "
            "computed after all"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the cache did in one video.

    Attributes:
        computed_share: share of the denoise steps' tokens that ran through the blocks.
        hit_ratio: the rest, which reused their residual.
        flops: FLOPs of the transformer, counted from the trace.
        vanilla_flops: FLOPs of the same video without a cache, as it runs.
        vanilla_visible_flops: the same, counting only the pairs of tokens that the block-causal mask shows.
        calibration: what velocities were forecast with, in words; None where nothing was forecast.
        forecast_errors: how far forecasts were off; None where none was followed by a computed step.
    """

    chunks: tuple[ChunkSummary, ...]
    hit_ratio: float
    computed_share: float
    flops: int
    vanilla_flops: int
    vanilla_visible_flops: int
    calibration: str | None = None
    forecast_errors: ForecastErrors | None = None

    def __str__(self) -> str:
        if not self.chunks or not self.flops:
            return "no video has been sampled with this cache yet"
        lines = ["window  chunk   full  partial  reused  computed"]
        lines += [
            f"{c.window:6d} {c.chunk:6d} {c.full:6d} {c.partial:8d} {c.reused:7d} {c.computed_share:9.1%}"
            for c in self.chunks
        ]
        ratio = self.vanilla_flops / self.flops
        lines.append(f"hit ratio {self.hit_ratio:.1%}, {self.flops:.3e} FLOPs, {ratio:.2f}x fewer than without a cache")
        if self.calibration is not None:
            lines.append(f"forecast with {self.calibration}")
        if self.forecast_errors is not None:
            lines.append(str(self.forecast_errors))
        return "\n".join(lines)


def summarise(trace: Trace, cost: Cost, *, calibration: str | None = None) -> Summary:
    """Count a trace."""
    by_chunk: dict[tuple[int, int], list[Record]] = {}
    for record in trace.denoise_records():
        by_chunk.setdefault((record.window, record.chunk), []).append(record)
    windows = trace.sampled_windows()
    return Summary(
        chunks=tuple(_chunk(*key, records) for key, records in sorted(by_chunk.items())),
        hit_ratio=trace.hit_ratio,
        computed_share=trace.computed_share,
        flops=cost.video(trace),
        vanilla_flops=cost.vanilla(windows),
        vanilla_visible_flops=cost.vanilla(windows, dense=False),
        calibration=calibration,
        forecast_errors=forecast_errors(trace),
    )


def forecast_errors(trace: Trace) -> ForecastErrors | None:
    """How far the forecasts of a video were off; read from the device, all at once."""
    errors = list(trace.errors)  # more may be added meanwhile
    if not errors:
        return None
    found = torch.stack([error.found for error in errors]).cpu().double()
    expected = torch.tensor([error.expected for error in errors], dtype=torch.float64)
    return ForecastErrors(expected=float(expected.mean().sqrt()), found=float(found.mean().sqrt()), count=len(errors))


def _chunk(window: int, chunk: int, records: list[Record]) -> ChunkSummary:
    full = sum(record.computed == record.tokens for record in records)
    reused = sum(record.computed == 0 for record in records)
    return ChunkSummary(
        window=window,
        chunk=chunk,
        full=full,
        partial=len(records) - full - reused,
        reused=reused,
        computed_share=sum(r.computed for r in records) / sum(r.tokens for r in records),
    )
