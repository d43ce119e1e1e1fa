"""What the page shows of one video: its frames, what was computed at each step, and maps to lay over the frames."""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from motioncache.record import Record
from motioncache.trace import Trace

LARGEST_WIDTH = 640
"""Wider frames are shrunk to this width in pixels."""

LARGEST_SHEET = 24_000_000
"""Pixels of a sprite sheet; the frames of a longer video are shrunk until theirs fit."""

DIFFERENCE = 10
"""How many times a difference between two videos is enlarged to be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """Maps over the frames of the last window, uint8 `[latent_frames, rows, columns]`; 255 stands for 1.

    Attributes:
        reused: share of the denoise steps in which a token was reused.
        weight: last motion weight of a token, 0 if it had none; None if the policy weighs no motion.
    """

    reused: NDArray[np.uint8]
    weight: NDArray[np.uint8] | None


def make_overlay(trace: Trace, weights: Mapping[int, torch.Tensor]) -> Overlay:
    """The maps of the trace's last window.

    Args:
        weights: last motion weights of the chunks that have any, float32 `[tokens_per_chunk]`.
    """
    window = len(trace.windows) - 1
    grid = trace.windows[window].grid
    shape = (grid.frames // grid.chunk_frames, grid.tokens_per_chunk)
    reused, steps = np.zeros(shape), np.zeros((shape[0], 1))
    branch = next((record.branch for record in trace.denoise_records()), None)
    for record in trace.denoise_records():
        if record.window == window and record.branch == branch:
            reused[record.chunk] += _reused(record)
            steps[record.chunk] += 1
    share = reused / np.maximum(steps, 1)
    weight = np.zeros(shape)
    for chunk, values in weights.items():
        weight[chunk] = values.float().cpu().numpy()
    maps = (grid.frames, grid.height, grid.width)
    return Overlay(reused=_as_bytes(share).reshape(maps), weight=_as_bytes(weight).reshape(maps) if weights else None)


def _reused(record: Record) -> NDArray[np.float64]:
    """1 for each token of the chunk that was reused, else 0, `[tokens]`."""
    mask = np.full(record.tokens, float(record.computed == 0))
    if record.due is not None:
        mask[:] = 1.0
        mask[record.due.numpy()] = 0.0
    return mask


def _as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


def decisions(trace: Trace) -> list[list[float]]:
    """Share of the tokens that were computed: a row for each chunk of each window, a value for each denoise step."""
    rows = _shares(trace)
    return [rows[key] for key in sorted(rows)]


def chunks_of(trace: Trace) -> list[tuple[int, int]]:
    """Window and chunk of each row of `decisions`."""
    return sorted(_shares(trace))


def _shares(trace: Trace) -> dict[tuple[int, int], list[float]]:
    branch = next((record.branch for record in trace.denoise_records()), None)
    rows: dict[tuple[int, int], list[float]] = {}
    for record in trace.denoise_records():
        if record.branch == branch:
            rows.setdefault((record.window, record.chunk), []).append(round(record.computed / record.tokens, 3))
    return rows


def make_view(
    frames: NDArray[np.uint8],
    *,
    fps: int,
    trace: Trace | None,
    overlay: Overlay | None,
    reference: NDArray[np.uint8] | None = None,
) -> dict[str, Any]:
    """Everything that the page needs of one video, in types that JSON can hold.

    Args:
        frames: uint8 `[frames, height, width, 3]`.
        trace: what was computed; None without a cache.
        overlay: maps to lay over the frames; None without a cache.
        reference: frames to show the difference from; None shows no difference.
    """
    view: dict[str, Any] = {"fps": fps, **sprite(frames)}
    if reference is not None:
        view["difference"] = sprite(difference(frames, reference))["sprite"]
    view["decisions"] = [] if trace is None else decisions(trace)
    if overlay is not None:
        view["grid"] = list(overlay.reused.shape)
        view["reused"] = base64.b64encode(overlay.reused.tobytes()).decode()
        view["weight"] = None if overlay.weight is None else base64.b64encode(overlay.weight.tobytes()).decode()
    return view


def difference(frames: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How far two videos are apart, `DIFFERENCE` times, in each colour; black where they are equal."""
    apart = np.abs(frames.astype(np.int16) - reference)
    return np.minimum(apart * DIFFERENCE, 255).astype(np.uint8)


def sprite(frames: NDArray[np.uint8]) -> dict[str, Any]:
    """All frames in one WebP image, as a `data:` address, with how many there are, their size and how they lie.

    The image is lossy: no figures are made from it.
    """
    count, height, width, _ = frames.shape
    scale = min(1.0, LARGEST_WIDTH / width, math.sqrt(LARGEST_SHEET / (count * height * width)))
    if scale < 1:
        height, width = max(1, int(height * scale)), max(1, int(width * scale))
        frames = np.stack([np.asarray(Image.fromarray(frame).resize((width, height))) for frame in frames])
    columns = math.ceil(math.sqrt(count * height / width))  # as good as square: a WebP has at most 16383 pixels a side
    sheet = np.zeros((-(-count // columns) * height, columns * width, 3), np.uint8)
    for i, frame in enumerate(frames):
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = frame
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "webp", quality=90)
    address = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"frames": count, "width": width, "height": height, "columns": columns, "sprite": address}
