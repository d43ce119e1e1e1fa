"""What the tokens of a video did while it was sampled without a cache: the material of `motioncache_eval.ranking`.

At each denoise step of a chunk, every token has a *residual change*, mean|R_s - R_(s-1)| over the channels, where the
residual R is hidden state after the blocks minus hidden state before them. A cache that reuses R_(s-1) at step s errs
by just this much, so it should compute the tokens that change most. A *motion proxy* is a score of each token that is
known before step s is computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache.motion import motion_score
from motioncache_eval.metrics import MOVING


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkStep:
    """One denoise step of one chunk, one CFG branch. All tensors are float32 `[frames, tokens_per_frame, channels]`.

    The frames are the chunk's latent frames and, in front of them, the last one of the chunk before, if there is one.

    Attributes:
        latents: noisy latents that go into the step; known before it is computed, as is `embedded`.
        embedded: after the patch embedding, before the blocks.
        hidden: after the blocks.
        velocity, predicted: what the step predicts: the velocity, and the clean latents.
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
"""Scores `[frames, tokens_per_frame]` of a chunk of `frames` latent frames before step `now` is computed, from step
`last` and the latents of step `now`. The published method takes the first."""

LAST_CHANGE = "last change"
"""One more proxy: the residual change of the step before, known from the second step on if everything is computed."""


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
    change = change.reshape(
        latent_frames - 1, -1, rows, video.shape[1] // rows, columns, video.shape[2] // columns
    ).mean((3, 5))
    moving = change.max(axis=1).reshape(latent_frames - 1, -1) > MOVING
    return np.concatenate([moving[:1], moving])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One video; a row for each denoise step but the first of each chunk, of the cond branch.

    Attributes:
        prompt: its caption.
        step, chunk: int `[rows]`.
        change: residual change of the chunk's tokens, float32 `[rows, tokens_per_chunk]`.
        moving: whether a token shows something that moves in the finished video, bool `[rows, tokens_per_chunk]`.
        proxies: scores by name, each float32 `[rows, tokens_per_chunk]`; NaN where a proxy is not known yet.
    """

    prompt: str
    step: NDArray[np.int64]
    chunk: NDArray[np.int64]
    change: NDArray[np.float32]
    moving: NDArray[np.bool_]
    proxies: dict[str, NDArray[np.float32]]

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        fields = {name: getattr(self, name) for name in ("prompt", "step", "chunk", "change", "moving")}
        proxies = {f"proxy: {name}": score for name, score in self.proxies.items()}
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **fields, **proxies)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Recording":
        try:
            with np.load(path) as file:
                proxies = {name.removeprefix("proxy: "): file[name] for name in file if name.startswith("proxy: ")}
                fields = {name: file[name] for name in ("step", "chunk", "change", "moving")}
                return cls(prompt=str(file["prompt"]), proxies=proxies, **fields)
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise MotionCacheError(
                f"{path} is not a recording ({error}); delete it and record the video again"
            ) from None


class Recorder:
    """Collects the rows of one video, chunk by chunk in the order of the denoise steps."""

    def __init__(self) -> None:
        self._last: dict[int, ChunkStep] = {}
        self._steps: dict[int, int] = {}
        self._changes: dict[int, torch.Tensor] = {}
        self._rows: list[tuple[int, int, torch.Tensor, dict[str, torch.Tensor]]] = []

    def add(self, chunk: int, now: ChunkStep, frames: int) -> None:
        """Take in the next denoise step of `chunk`, a chunk of `frames` latent frames."""
        last, self._last[chunk] = self._last.get(chunk), now
        self._steps[chunk] = self._steps.get(chunk, -1) + 1
        if last is None:
            return
        change = residual_change(last, now, frames).flatten()
        scores = {name: proxy(last, now, frames).flatten() for name, proxy in PROXIES.items()}
        scores[LAST_CHANGE] = self._changes.get(chunk, torch.full_like(change, torch.nan))
        self._changes[chunk] = change
        self._rows.append((self._steps[chunk], chunk, change, scores))

    def recording(self, prompt: str, video: NDArray[np.uint8], grid: tuple[int, int, int]) -> Recording:
        """Everything that was added, with what moves in the finished `video` (see `moving_tokens`)."""
        steps, chunks, changes, scores = zip(*self._rows, strict=True)
        moving = moving_tokens(video, grid).reshape(max(chunks) + 1, -1)  # [chunks, tokens_per_chunk]
        return Recording(
            prompt=prompt,
            step=np.array(steps),
            chunk=np.array(chunks),
            change=_stack(changes),
            moving=moving[np.array(chunks)],
            proxies={name: _stack([score[name] for score in scores]) for name in scores[0]},
        )


def _stack(rows: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> NDArray[np.float32]:
    return torch.stack(tuple(rows)).float().cpu().numpy()
