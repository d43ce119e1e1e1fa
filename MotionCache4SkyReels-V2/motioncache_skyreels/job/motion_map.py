"""Keeps motion weights while a video is sampled, for the picture of the decisions."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.engine import Task
from motioncache.grid import TokenGrid
from motioncache.policy.motioncache import MotionMemory
from motioncache.state import ChunkState
from motioncache.trace import Phase, Trace
from motioncache_eval.figures import MotionMap


class MotionRecorder:
    """Engine observer that keeps each token-phase decision of the cond branch; tensors stay where they are."""

    def __init__(self) -> None:
        self._decisions: list[tuple[Task, torch.Tensor]] = []

    def attach(self, hook: Any) -> None:
        self._decisions.clear()
        hook.engine.observer = self._observe

    def _observe(self, task: Task, state: ChunkState) -> None:
        memory = task.request.memory
        if task.work.branch != "cond" or task.decision.phase is not Phase.token:
            return
        if isinstance(memory, MotionMemory) and memory.weight is not None:
            self._decisions.append((task, memory.weight))

    def motion_map(self, trace: Trace, video: NDArray[np.uint8]) -> MotionMap | None:
        """The decision to show over its frame: one that computed some tokens if there is one, from the last window."""
        window = len(trace.windows) - 1
        latest = [d for d in self._decisions if d[0].request.grid == trace.windows[window].grid]
        if not latest:
            return None
        partial = [d for d in latest if isinstance(d[0].due, torch.Tensor)]
        candidates = partial or latest
        task, weight = candidates[len(candidates) // 2]
        return _draw(task, weight, video, trace)


def _draw(task: Task, weight: torch.Tensor, video: NDArray[np.uint8], trace: Trace) -> MotionMap:
    grid = task.request.grid
    frame = grid.chunk_frames // 2  # of the chunk, in latent frames
    reused = torch.ones(grid.tokens_per_chunk, dtype=torch.bool)
    reused[task.indices()] = False
    latent_frame = task.work.chunk * grid.chunk_frames + frame
    from_end = grid.frames - 1 - latent_frame  # windows are aligned at their end: the video ends with the last one
    pixel_frame = len(video) - 1 - 4 * from_end
    step = f"chunk {task.work.chunk}, denoise step {task.request.step}, latent frame {latent_frame}"
    return MotionMap(
        frame=video[max(pixel_frame, 0)],
        weight=_frame(weight.float().cpu(), frame, grid).numpy(),
        reused=_frame(reused, frame, grid).numpy(),
        title=step,
    )


def _frame(tokens: torch.Tensor, frame: int, grid: TokenGrid) -> torch.Tensor:
    """One latent frame's tokens, `[rows, columns]`."""
    return tokens.view(grid.chunk_frames, grid.height, grid.width)[frame]
