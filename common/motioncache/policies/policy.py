"""What the engine asks of a policy."""

from collections.abc import Sequence
from typing import Protocol

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.record import ForecastError, WindowShape


class Policy(Protocol):
    """Decides; it never computes.

    It is asked once per model call for all chunks that denoise, in both CFG branches, so one object can decide for a
    whole window (TeaCache), per chunk (FlowCache) or per token (MotionCache). Its methods are pure, but for `observe`:
    what it remembers comes in and goes out as a value.
    """

    history: int
    """How many of its last outputs a chunk keeps for reuse; 0 where nothing is ever reused."""

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        """Decide for every call, without waiting for the device."""
        ...

    def computes_together(self, starts: Sequence[int]) -> bool:
        """Whether no chunk sees what another left at an earlier step; `starts` are the iterations of first steps."""
        return self.history == 0

    def remember(self, decision: Decision, hidden: torch.Tensor, window: WindowShape, predecessor: Memory) -> Memory:
        """The chunk's memory once it has been computed.

        Args:
            hidden: the whole chunk after the blocks, reused tokens included, `[batch, tokens, channels]`.
            predecessor: memory of the chunk before it in the same CFG branch.
        """
        return decision.memory

    def observe(
        self, decision: Decision, output: torch.Tensor, earlier: Sequence[torch.Tensor]
    ) -> ForecastError | None:
        """See the output of a chunk that was computed whole, without waiting for the device.

        Args:
            earlier: the outputs that the chunk has kept until now, the latest first.

        Returns:
            How far a forecast of this output would have been off, where the policy knows.
        """
        return None

    def remember_prefix(self, hidden: torch.Tensor, window: WindowShape) -> Memory:
        """The memory of a prefix chunk, which is computed once and never denoised."""
        return None
