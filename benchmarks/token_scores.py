"""What is kept of a chunk in a trial, and the scores that choose which of its tokens are computed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import avg_pool2d

from motioncache.grid import TokenGrid
from motioncache.motion import motion_score


@dataclass(slots=True)
class Chunk:
    """What is kept of a chunk.

    Attributes:
        velocities: a token's last velocities, latest first, for each branch, `[stored, tokens, values]`.
        computed: the denoise steps of these computations, -1 for none, `[stored, tokens]`.
        hidden: the cond branch after the blocks, `[frames, tokens_per_frame, channels]`.
    """

    velocities: dict[int, torch.Tensor]
    computed: torch.Tensor
    hidden: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a selector may look at to score a chunk's tokens; velocities are those of the cond branch.

    Attributes:
        frames: the chunk's frames within the window.
        state, before: what is kept of the chunk, and of the one before it.
        clean, latents: predicted clean latents and the latents of the window, `[frames, tokens_per_frame, values]`.
        forecast: forecast velocity of the chunk's tokens, `[tokens, values]`.
        truth: their computed velocity, for the oracle alone.
    """

    grid: TokenGrid
    frames: slice
    state: Chunk
    before: Chunk | None
    clean: torch.Tensor
    latents: torch.Tensor
    forecast: torch.Tensor
    truth: torch.Tensor | None


def _moved(frames: torch.Tensor, where: slice) -> torch.Tensor:
    """Difference of each frame of a chunk to the one before, `[tokens]`; the first of a video copies the second's."""
    before = frames[where.start - 1 : where.stop - 1] if where.start else frames[[0, *range(where.stop - 1)]]
    moved = (frames[where] - before).abs().mean(2)
    if not where.start:
        moved[0] = moved[1]
    return moved.flatten()


def _hidden(seen: Seen) -> torch.Tensor:
    hidden, before = seen.state.hidden, None if seen.before is None else seen.before.hidden
    assert hidden is not None
    return motion_score(hidden[None], None if before is None else before[None, -1], missing=torch.nan).flatten()


def _change(seen: Seen) -> torch.Tensor:
    """Difference of the last two computed velocities."""
    now, before = seen.state.velocities[0][:2]
    return (now - before).abs().mean(1)


def _detail(seen: Seen) -> torch.Tensor:
    """Variance of the predicted clean latents over 3x3 tokens."""
    frames = seen.clean[seen.frames].unflatten(1, (seen.grid.height, seen.grid.width)).permute(0, 3, 1, 2)
    near = partial(avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    return (near(frames**2) - near(frames) ** 2).mean(1).flatten()


def _oracle(seen: Seen) -> torch.Tensor:
    """The error of each token's forecast."""
    assert seen.truth is not None
    return (seen.truth - seen.forecast).abs().mean(1)


SELECTORS: dict[str, Callable[[Seen], torch.Tensor]] = {
    "hidden difference": _hidden,
    "latent difference": lambda seen: _moved(seen.latents, seen.frames),
    "predicted x0": lambda seen: _moved(seen.clean, seen.frames),
    "velocity change": _change,
    "detail": _detail,
    "random": lambda seen: torch.rand(len(seen.forecast)),
    "oracle": _oracle,
}
"""Scores of a chunk's tokens, `[tokens]`."""
