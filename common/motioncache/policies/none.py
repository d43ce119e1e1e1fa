"""The policy of the `exact` preset: every denoise step is computed, only chunk KV reuse saves work."""

from collections.abc import Sequence
from dataclasses import dataclass

from motioncache.config import PolicyConfig
from motioncache.decision import Call, Decision, Memory
from motioncache.policies.policy import Policy
from motioncache.record import Phase, WindowShape


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCacheConfig(PolicyConfig):
    """Compute every denoise step; it has no settings."""


class NoCache(Policy):
    """Computes all tokens at all steps."""

    history = 0

    def decide(self, calls: Sequence[Call], memories: Sequence[Memory], window: WindowShape) -> list[Decision]:
        return [Decision(call=call, phase=Phase.uncached, due=True) for call in calls]
