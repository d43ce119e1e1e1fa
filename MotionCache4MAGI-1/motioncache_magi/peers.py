"""Policies of the benchmark that stand for methods of others, on MAGI-1; what is kept are velocities."""

from dataclasses import dataclass

from motioncache.field_types import require_range
from motioncache.policies.policy import Policy
from motioncache.presets import Policies
from motioncache_eval.bench.extrapolation import HiCache, Scope
from motioncache_magi.cache.config import MagiReuseConfig, Output
from motioncache_magi.sampling.schedule import WindowSchedule, time_schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiScopeConfig(MagiReuseConfig):
    """Our reading of SCOPE, see `Scope`."""

    output: Output = Output.velocity
    threshold: float = 0.1
    warmup: int = 4
    cache_share: float = 0.5
    most_change: float = 1.0

    measures = True

    def __post_init__(self) -> None:
        MagiReuseConfig.__post_init__(self)
        require_range("threshold", self.threshold, self.threshold >= 0, "0 or more")
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")
        require_range("cache_share", self.cache_share, 0 <= self.cache_share <= 1, "between 0 and 1")
        require_range("most_change", self.most_change, self.most_change > 0, "more than 0")

    def create_policy(self, schedule: WindowSchedule) -> Policy:
        times = time_schedule(schedule.steps, shortcut_mode=schedule.shortcut_mode).tolist()
        return Scope(
            threshold=self.threshold,
            cache_share=self.cache_share,
            most_change=self.most_change,
            warmup=self.warmup,
            sigmas=[1 - time for time in times],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiHiCacheConfig(MagiReuseConfig):
    """See `HiCache`."""

    output: Output = Output.velocity
    interval: int = 2
    first_enhance: int = 2

    def __post_init__(self) -> None:
        MagiReuseConfig.__post_init__(self)
        require_range("interval", self.interval, self.interval >= 1, "1 or more")
        require_range("first_enhance", self.first_enhance, self.first_enhance >= 1, "1 or more")

    def create_policy(self, schedule: WindowSchedule) -> Policy:
        return HiCache(interval=self.interval, first_enhance=self.first_enhance)


PEERS: Policies = {"scope": MagiScopeConfig, "hicache": MagiHiCacheConfig}
