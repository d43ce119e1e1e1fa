"""Motion proxies: scores of each token that are known before a denoise step of its chunk is computed.

At each denoise step s of a chunk, every token has a *residual change*, mean|R_s - R_(s-1)| over the channels, where the
residual R is the hidden state after the blocks minus the hidden state before them. This is the error of a cache that
reuses R_(s-1) at step s, so a cache should compute the tokens that change most. A proxy tries to tell which they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.motion import motion_score
from motioncache_eval.metrics import MOVING


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStep:
    """One denoise step of one chunk, one CFG branch. All tensors are float32 `[frames, tokens_per_frame, channels]`.

    The frames are the chunk's latent frames and, in front of them, the last one of the chunk before, if there is one.

    Attributes:
        latents: noisy latents that go into the step; known before it is computed, as is `embedded`.
        embedded: hidden state after the patch embedding, before the blocks.
        hidden: hidden state after the blocks.
        velocity: the velocity that the step predicts.
        predicted: the clean latents that the step predicts.
    """

    latents: torch.Tensor
    embedded: torch.Tensor
    hidden: torch.Tensor
    velocity: torch.Tensor
    predicted: torch.Tensor

    @property
    def residual(self) -> torch.Tensor:
        return self.hidden - self.embedded


Proxy = Callable[[ChunkStep, ChunkStep, int], torch.Tensor]

PROXIES: dict[str, Proxy] = {
    "hidden, relative": lambda last, now, frames: relative_frame_difference(last.hidden, frames),
    "hidden": lambda last, now, frames: frame_difference(last.hidden, frames),
    "residual": lambda last, now, frames: frame_difference(last.residual, frames),
    "embedded": lambda last, now, frames: frame_difference(now.embedded, frames),
    "latents": lambda last, now, frames: frame_difference(now.latents, frames),
    "velocity": lambda last, now, frames: frame_difference(last.velocity, frames),
    "predicted, relative": lambda last, now, frames: relative_frame_difference(last.predicted, frames),
    "predicted": lambda last, now, frames: frame_difference(last.predicted, frames),
    "detail": lambda last, now, frames: detail(last.predicted, frames),
}
"""Scores `[frames, tokens_per_frame]` of a chunk of `frames` latent frames before step `now` is computed.

They are taken from the step `last` before it, and from what goes into step `now`. The published method takes the first.
"""

LAST_CHANGE = "last change"
"""One more proxy: the residual change of the step before. It has a value from the second change of a chunk on."""


def frame_difference(x: torch.Tensor, frames: int) -> torch.Tensor:
    """mean|x_f - x_(f-1)|, `[frames, tokens_per_frame]`; a first frame without a predecessor takes the second's."""
    difference = (x[1:] - x[:-1]).abs().mean(-1)
    return difference if len(x) > frames else torch.cat([difference[:1], difference])


def relative_frame_difference(x: torch.Tensor, frames: int) -> torch.Tensor:
    """mean|x_f - x_(f-1)| / mean|x_(f-1)|, the motion score of the published method."""
    before = x[:1] if len(x) > frames else None
    return motion_score(x[None, -frames:], before, missing=torch.nan)


def detail(x: torch.Tensor, frames: int) -> torch.Tensor:
    """mean|x_i - mean of the latent frame|: how much a token stands out from its frame."""
    x = x[-frames:]
    return (x - x.mean(1, keepdim=True)).abs().mean(-1)


def residual_change(last: ChunkStep, now: ChunkStep, frames: int) -> torch.Tensor:
    """mean|R_s - R_(s-1)|, `[frames, tokens_per_frame]`."""
    return (now.residual - last.residual)[-frames:].abs().mean(-1)


def moving_tokens(video: NDArray[np.uint8], grid: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Which tokens show something that moves, bool `[latent_frames, tokens_per_frame]`.

    Args:
        video: uint8 `[frames, height, width, 3]`; the first latent frame is one frame, all others are equally many.
        grid: latent frames, and rows and columns of tokens.
    """
    latent_frames, rows, columns = grid
    change = np.abs(np.diff(video.astype(np.float32) / 255, axis=0)).mean(-1)  # [frames - 1, height, width]
    height, width = video.shape[1] // rows, video.shape[2] // columns  # of a token
    change = change.reshape(latent_frames - 1, -1, rows, height, columns, width).mean((3, 5))
    moving = change.max(axis=1).reshape(latent_frames - 1, -1) > MOVING
    return np.concatenate([moving[:1], moving])
