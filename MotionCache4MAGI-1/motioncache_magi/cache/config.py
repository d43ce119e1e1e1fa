"""What the configs of all policies share that reuse anything on MAGI-1."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from motioncache.config import PolicyConfig
from motioncache.policies.policy import Policy
from motioncache_magi.sampling.schedule import WindowSchedule


class Output(Enum):
    """What a token keeps from its last computation."""

    displacement = "displacement"
    """How far its latents moved; published. It does not know that steps grow longer."""
    velocity = "velocity"
    """Its velocity, which is multiplied by the length of the step that reuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiReuseConfig(PolicyConfig):
    """What all policies share that reuse anything.

    Args:
        output: see `Output`.
        refresh_clean: compute keys and values of a chunk once more when it has become clean, as without a cache; the
            published code does not.
        nearly_clean: keep the guidance of the nearly clean chunk, as without a cache; published for TeaCache alone.
    """

    output: Output = Output.displacement
    refresh_clean: bool = True
    nearly_clean: bool = True

    measures: ClassVar[bool] = False
    """Whether it decides by step distances."""

    def measures_tokens(self, step: int) -> bool:
        """Whether the distance of a chunk's step is wanted for each token, and not for the chunk."""
        return False

    def create_policy(self, schedule: WindowSchedule) -> Policy:
        """What decides for a video."""
        raise NotImplementedError
