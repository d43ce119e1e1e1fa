"""Chooses what keeps the keys and values of a video."""

import torch

from motioncache.config import KVStorage
from motioncache.kept import FORMS
from motioncache_magi.model.config import ModelConfig
from motioncache_magi.sampling.guidance import Guidance, branches_of
from motioncache_magi.sampling.kv_layout import ALONE, PAST, TEXT, MovingKVCache
from motioncache_magi.sampling.layered_kv import LayeredKVCache

Store = MovingKVCache | LayeredKVCache


def create_store(
    config: ModelConfig,
    per_chunk: int,
    *,
    slots: int,
    parts: int,
    kv: KVStorage,
    keeps_all: bool,
    device: torch.device,
) -> Store:
    """A store for the slots of a layout.

    Args:
        per_chunk: tokens of a chunk.
        parts: processes that the heads are divided among.
        keeps_all: keep all chunks that are computed, and not clean ones alone.
    """
    rows, heads, size = slots * per_chunk, config.num_query_groups // parts, config.kv_channels
    if kv is KVStorage.model and keeps_all:
        return MovingKVCache(
            layers=config.num_layers, batch=1, rows=rows, heads=heads, head_dim=size, dtype=config.dtype, device=device
        )
    return LayeredKVCache(
        FORMS[kv],
        keeps_all=keeps_all,
        rows=rows,
        per_chunk=per_chunk,
        heads=heads,
        head_dim=size,
        dtype=config.dtype,
        device=device,
    )


def kept_branches(guidance: Guidance, *, keeps_active: bool) -> tuple[str, ...]:
    """The branches whose keys and values are read again: not those of the nearly clean chunk, which are always whole.

    Args:
        keeps_active: see `Reuse`.
    """
    alone = (ALONE,) if keeps_active else ()
    return tuple(branch for branch in branches_of(guidance) if branch in (TEXT, PAST, *alone))
