"""A policy around another one, for tools that listen or change an answer."""

from collections.abc import Sequence

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.policies.policy import Policy
from motioncache.record import WindowShape


class PolicyWrapper(Policy):
    """Leaves everything to another policy; override what a tool wants to hear or to change."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.history = policy.history

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return self.policy.decide(calls, memories, window)

    def computes_together(self, starts: Sequence[int]) -> bool:
        return self.policy.computes_together(starts)

    def remember(self, decision: Decision, hidden: torch.Tensor, window: WindowShape, predecessor: Memory) -> Memory:
        return self.policy.remember(decision, hidden, window, predecessor)

    def remember_prefix(self, hidden: torch.Tensor, window: WindowShape) -> Memory:
        return self.policy.remember_prefix(hidden, window)
