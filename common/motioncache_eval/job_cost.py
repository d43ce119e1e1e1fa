"""What a job takes, known from its settings and the model's configuration alone."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCost:
    """What a video takes.

    Attributes:
        flops: of the transformer without a cache.
        memory: bytes at the peak with the cache on, weights included, an estimate.
    """

    flops: int
    memory: int
