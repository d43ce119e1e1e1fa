"""Policies of the benchmark that stand for methods of others, on SkyReels-V2; residuals of the blocks are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from motioncache.config import PolicyConfig
from motioncache.engine import Engine
from motioncache.field_types import require_range
from motioncache.policies.distance import DistanceConfig
from motioncache.presets import Policies
from motioncache_eval.bench.extrapolation import HiCache, Scope
from motioncache_skyreels.opening import WindowOpener
from motioncache_skyreels.profile import sigmas_of
from motioncache_skyreels.schedule import Matrices, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeConfig(DistanceConfig):
    """Our reading of SCOPE, see `Scope`; `DistanceConfig` has the rest."""

    warmup: int = 4
    cache_share: float = 0.5
    most_change: float = 1.0

    def __post_init__(self) -> None:
        DistanceConfig.__post_init__(self)
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")
        require_range("cache_share", self.cache_share, 0 <= self.cache_share <= 1, "between 0 and 1")
        require_range("most_change", self.most_change, self.most_change > 0, "more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class HiCacheConfig(PolicyConfig):
    """See `HiCache`."""

    interval: int = 2
    first_enhance: int = 2

    def __post_init__(self) -> None:
        PolicyConfig.__post_init__(self)
        require_range("interval", self.interval, self.interval >= 1, "1 or more")
        require_range("first_enhance", self.first_enhance, self.first_enhance >= 1, "1 or more")


PEERS: Policies = {"scope": ScopeConfig, "hicache": HiCacheConfig}


class ScopeOpener(WindowOpener):
    """Tells the policy the noise levels of each window."""

    config: ScopeConfig

    def create_schedule(self, matrices: Matrices, chunk_frames: int, fps: Sequence[int] | None) -> Schedule:
        schedule, config = super().create_schedule(matrices, chunk_frames, fps), self.config
        self.engine.policy = Scope(
            threshold=config.threshold,
            cache_share=config.cache_share,
            most_change=config.most_change,
            warmup=config.warmup,
            sigmas=sigmas_of(schedule),
        )
        return schedule


class HiCacheOpener(WindowOpener):
    """Opens windows of `HiCache`."""

    config: HiCacheConfig

    def create_engine(self) -> Engine:
        return Engine(HiCache(interval=self.config.interval, first_enhance=self.config.first_enhance))
