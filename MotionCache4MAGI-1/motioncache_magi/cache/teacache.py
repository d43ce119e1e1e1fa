"""TeaCache on MAGI-1, decided by the distance of embedded latents."""

from dataclasses import dataclass

from motioncache.field_types import require_range
from motioncache.policies.policy import Policy
from motioncache.policies.teacache import TeaCache
from motioncache_magi.cache.config import MagiReuseConfig
from motioncache_magi.sampling.schedule import WindowSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class MagiTeaCacheConfig(MagiReuseConfig):
    """TeaCache: all chunks of the window are computed or reused together; see `MagiReuseConfig` for the rest.

    Args:
        warmup: last denoise step of the video, counted from 0, that is computed in full whatever the distance.
        threshold: the window is due when its accumulated distance reaches this.
    """

    warmup: int = 4
    threshold: float = 0.01

    measures = True

    def __post_init__(self) -> None:
        MagiReuseConfig.__post_init__(self)
        require_range("warmup", self.warmup, self.warmup >= 0, "0 or more")
        require_range("threshold", self.threshold, self.threshold >= 0, "0 or more")

    def create_policy(self, schedule: WindowSchedule) -> Policy:
        return TeaCache(threshold=self.threshold, warmup=self.warmup)
