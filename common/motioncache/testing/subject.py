"""What a suite of promises has to know of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from motioncache.config import PolicyConfig
from motioncache.registry import Adapter


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under test; small random weights are enough, since all promises are equalities.

    Attributes:
        adapter: the model's adapter.
        create_pipeline: a fresh pipeline, each time with the same weights.
        sample: latents of a video of several chunks, the same for the same seed: `sample(pipeline, seed)`.
        sample_other: latents of a video of another size.
        blocks: the transformer's blocks, in order.
        step_calls: passes through the blocks at an iteration in which something is computed.
        token_policy: a policy that decides token by token, and does all it can within the few steps of `sample`.
        everything: changes of its fields that make every token due at every step.
        nothing: changes of its fields that make no token due after the warm-up.
        changes: for each of its fields, a value that changes what is computed; fields that need a video of another
            kind to make a difference are named in `elsewhere`.
        elsewhere: fields of the policy that other tests of the model show to have an effect.
        other_policies: policies of every other kind that reuses, by name.
        tolerance: largest difference of latents that other orders of summation may cause.
    """

    adapter: Adapter
    create_pipeline: Callable[[], Any]
    sample: Callable[[Any, int], torch.Tensor]
    sample_other: Callable[[Any], torch.Tensor]
    blocks: Callable[[Any], Sequence[nn.Module]]
    token_policy: PolicyConfig
    everything: Mapping[str, Any]
    nothing: Mapping[str, Any]
    changes: Mapping[str, Any]
    elsewhere: tuple[str, ...] = ()
    other_policies: Mapping[str, PolicyConfig] = field(default_factory=dict[str, PolicyConfig])
    step_calls: Callable[[int], int] = lambda iteration: 1
    tolerance: float = 2e-5

    @property
    def policies(self) -> dict[str, PolicyConfig]:
        """All policies that reuse, by name."""
        return {"token by token": self.token_policy, **self.other_policies}
