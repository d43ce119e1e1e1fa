"""Recordings: what the tokens of a video did while it was sampled without a cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache.whole_file import whole_file
from motioncache_eval.ranking.proxies import LAST_CHANGE, PROXIES, ChunkStep, moving_tokens, residual_change


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One video. It has a row for each denoise step of each chunk but the first, in the cond branch.

    Attributes:
        prompt: the prompt of the video.
        step, chunk: denoise step and chunk of each row, int `[rows]`.
        change: residual change of the chunk's tokens, float32 `[rows, tokens_per_chunk]`.
        moving: whether a token shows something that moves in the finished video, bool `[rows, tokens_per_chunk]`.
        proxies: scores by name, each float32 `[rows, tokens_per_chunk]`; NaN while a proxy has no value yet.
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
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **fields, **proxies)

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Read a file that `save` has written.

        Raises:
            MotionCacheError: if it is damaged, or no recording.
        """
        try:
            with np.load(path) as file:
                proxies = {name.removeprefix("proxy: "): file[name] for name in file if name.startswith("proxy: ")}
                fields = {name: file[name] for name in ("step", "chunk", "change", "moving")}
                return cls(prompt=str(file["prompt"]), proxies=proxies, **fields)
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise MotionCacheError(
                f"{path} is not a recording ({error}); delete it and record the video again"
            ) from None


class _Row(NamedTuple):
    step: int
    chunk: int
    change: torch.Tensor
    scores: dict[str, torch.Tensor]


class Recorder:
    """Collects the rows of one video. The denoise steps of a chunk have to come in their order."""

    def __init__(self) -> None:
        self._last: dict[int, ChunkStep] = {}
        self._steps: dict[int, int] = {}
        self._changes: dict[int, torch.Tensor] = {}
        self._rows: list[_Row] = []

    def add(self, chunk: int, now: ChunkStep, frames: int) -> None:
        """Add the next denoise step of `chunk`, which has `frames` latent frames."""
        last, self._last[chunk] = self._last.get(chunk), now
        self._steps[chunk] = self._steps.get(chunk, -1) + 1
        if last is None:
            return
        change = residual_change(last, now, frames).flatten()
        scores = {name: proxy(last, now, frames).flatten() for name, proxy in PROXIES.items()}
        scores[LAST_CHANGE] = self._changes.get(chunk, torch.full_like(change, torch.nan))
        self._changes[chunk] = change
        self._rows.append(_Row(self._steps[chunk], chunk, change, scores))

    def recording(self, prompt: str, video: NDArray[np.uint8], grid: tuple[int, int, int]) -> Recording:
        """Everything that was added, with what moves in the finished `video` (see `moving_tokens`)."""
        rows = self._rows
        chunk = np.array([row.chunk for row in rows])
        moving = moving_tokens(video, grid).reshape(chunk.max() + 1, -1)  # [chunks, tokens_per_chunk]
        return Recording(
            prompt=prompt,
            step=np.array([row.step for row in rows]),
            chunk=chunk,
            change=_stack([row.change for row in rows]),
            moving=moving[chunk],
            proxies={name: _stack([row.scores[name] for row in rows]) for name in rows[0].scores},
        )


def _stack(rows: Sequence[torch.Tensor]) -> NDArray[np.float32]:
    return torch.stack(tuple(rows)).float().cpu().numpy()
