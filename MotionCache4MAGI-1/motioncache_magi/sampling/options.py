"""What a user trades between memory and time when a video is sampled; no frame depends on it but by rounding."""

from dataclasses import dataclass

from motioncache.config import KVStorage
from motioncache.errors import ConfigError
from motioncache.field_types import shown

_BUSY = 4096
"""Tokens that keep a GPU busy: computing more of them at a time gains nothing, and takes memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """How much is computed at a time, and how the rest is kept.

    Args:
        kv: how keys and values are kept from step to step; `motioncache.enable_cache` sets it.
        chunks_at_once: how many chunks' worth of tokens, of all CFG branches, a layer computes at a time. None takes
            one chunk, or as many as have 4096 tokens together if chunks are small.

    Raises:
        ConfigError: if there is no such choice.
    """

    chunks_at_once: int | None = None
    kv: KVStorage = KVStorage.model

    def __post_init__(self) -> None:
        chunks = self.chunks_at_once
        if chunks is not None and (type(chunks) is not int or chunks < 1):
            raise ConfigError(f"chunks_at_once must be null, or a whole number of at least 1, not {shown(chunks)}")

    def most_rows(self, tokens_per_chunk: int) -> int:
        """Tokens that a layer computes at a time, except that a chunk is not divided."""
        return _BUSY if self.chunks_at_once is None else self.chunks_at_once * tokens_per_chunk


AUTOMATIC = MemoryOptions()
"""What is chosen where a user says nothing."""
