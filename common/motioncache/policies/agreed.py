"""Lets processes that decide the same carry out the decisions of one of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from motioncache.decision import Call, Decision, Memory
from motioncache.policies.policy import Policy
from motioncache.policies.wrapper import PolicyWrapper
from motioncache.record import WindowShape


class Agreed(PolicyWrapper):
    """Decides as another policy, with masks that are the same in all processes.

    A sum of floats may come out differently on another GPU, and a token that is just due in one process and not in
    another would leave them waiting for each other for ever. What is decided without masks was planned, and is alike.

    Args:
        agree: gives bool masks `[masks, tokens]` as one of the processes has them.
    """

    def __init__(self, policy: Policy, agree: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(policy)
        self._agree = agree

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        decisions = super().decide(calls, memories, window)
        masks = [mask for d in decisions for mask in (d.due, d.candidates) if isinstance(mask, torch.Tensor)]
        if not masks:
            return decisions
        agreed = iter(self._agree(torch.stack(masks)))
        return [
            replace(
                decision,
                due=next(agreed) if isinstance(decision.due, torch.Tensor) else decision.due,
                candidates=next(agreed) if isinstance(decision.candidates, torch.Tensor) else decision.candidates,
            )
            for decision in decisions
        ]
