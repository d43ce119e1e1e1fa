"""Records motion weights while a video is sampled, for the picture of the decisions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.decision import ChunkState, Decision
from motioncache.engine import Engine
from motioncache.grid import TokenGrid
from motioncache.probe import Probe
from motioncache.record import Phase
from motioncache.trace import Trace
from motioncache_eval.figures import MotionMap


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDecision:
    """One decision of the token phase, without the tensors that the decision refers to besides these.

    Attributes:
        due: see `Decision.due`.
        weight: motion weights on the device, float32 `[tokens_per_chunk]`.
    """

    window: int
    chunk: int
    step: int
    due: bool | torch.Tensor
    weight: torch.Tensor


class MotionRecorder(Probe):
    """Records the token-phase decisions of one CFG branch."""

    def __init__(self, branch: str) -> None:
        self._branch = branch
        self._decisions: list[TokenDecision] = []
        self._engine: Engine | None = None

    def attach(self, hook: Any) -> None:
        """Watch the videos that a pipeline samples; `hook` is that of its cache."""
        self._decisions.clear()
        self._engine = hook.engine
        hook.engine.probe = self

    def committed(self, decision: Decision, state: ChunkState) -> None:
        weight: torch.Tensor | None = getattr(decision.memory, "weight", None)  # if the policy weighs motion
        call = decision.call
        if call.branch == self._branch and decision.phase is Phase.token and weight is not None:
            self._decisions.append(
                TokenDecision(window=self._window, chunk=call.chunk, step=call.step, due=decision.due, weight=weight)
            )

    @property
    def _window(self) -> int:
        return -1 if self._engine is None else len(self._engine.trace.windows) - 1

    def weights(self) -> dict[int, torch.Tensor]:
        """The last motion weights of each chunk of the last window, float32 `[tokens_per_chunk]`."""
        return {chunk: weight for (window, chunk), weight in self.last_weights().items() if window == self._window}

    def last_weights(self) -> dict[tuple[int, int], torch.Tensor]:
        """The last motion weights of each chunk of each window, float32 `[tokens_per_chunk]`."""
        return {(decision.window, decision.chunk): decision.weight for decision in self._decisions}

    def motion_map(self, trace: Trace, video: NDArray[np.uint8]) -> MotionMap | None:
        """A decision of the last window over its frame, if possible one that computed only some of the tokens.

        Args:
            video: uint8 `[frames, height, width, 3]`.
        """
        window = len(trace.windows) - 1
        decisions = [decision for decision in self._decisions if decision.window == window]
        if not decisions:
            return None
        candidates = [decision for decision in decisions if isinstance(decision.due, torch.Tensor)] or decisions
        return _over_frame(candidates[len(candidates) // 2], trace.windows[window].grid, video)


def _over_frame(decision: TokenDecision, grid: TokenGrid, video: NDArray[np.uint8]) -> MotionMap:
    """The part of a decision that belongs to the middle latent frame of its chunk."""
    frame = grid.chunk_frames // 2
    reused = torch.full((grid.tokens_per_chunk,), decision.due is False)
    if isinstance(decision.due, torch.Tensor):
        reused.fill_(True)[decision.due] = False
    latent_frame = decision.chunk * grid.chunk_frames + frame
    from_end = grid.frames - 1 - latent_frame  # windows are aligned at their end: the video ends with the last one
    pixel_frame = len(video) - 1 - 4 * from_end
    return MotionMap(
        frame=video[max(pixel_frame, 0)],
        weight=_frame(decision.weight.float().cpu(), frame, grid).numpy(),
        reused=_frame(reused, frame, grid).numpy(),
        title=f"chunk {decision.chunk}, denoise step {decision.step}, latent frame {latent_frame}",
    )


def _frame(tokens: torch.Tensor, frame: int, grid: TokenGrid) -> torch.Tensor:
    """The tokens of one latent frame of a chunk, `[rows, columns]`."""
    return tokens.view(grid.chunk_frames, grid.height, grid.width)[frame]
