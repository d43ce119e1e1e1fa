"""Refuses a window whose keys and values cannot fit on the GPU, before anything is sampled, and says what does fit."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel

from motioncache.config import KVStorage, PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.record import WindowShape
from motioncache_eval.memory import GIB, Footprint
from motioncache_skyreels.memory import memory
from motioncache_skyreels.peak import kept_keys


def check_fits(
    transformer: SkyReelsV2Transformer3DModel,
    hidden_states: torch.Tensor,
    shape: WindowShape,
    policy: PolicyConfig,
    *,
    synchronous: bool,
    shares: int = 1,
) -> None:
    """Compare what a window keeps with what is free.

    Args:
        hidden_states: latents of the window, `[B, channels, F, height, width]`.
        shares: processes among which keys and values are divided.

    Raises:
        MotionCacheError: names settings with which it fits.
    """
    free = free_memory(hidden_states.device)
    if free is None:
        return
    free *= shares
    estimate = partial(_estimate, transformer, hidden_states, shape, synchronous)
    needed = estimate(policy)
    if needed.kv_cache + needed.text_kv + needed.outputs <= free:
        return
    frames = _frames(shape.grid.frames)
    found = next((flags for flags, one in _milder(policy) if _sampling(estimate(one)) <= free), None)
    lengths = range(shape.grid.chunks - 1, 0, -1)
    shorter = next((n for n in lengths if _sampling(estimate(policy, chunks=n)) <= free), None)
    window = None if shorter is None else f"base_num_frames={_frames(shorter * shape.grid.chunk_frames)}"
    remedies = " or ".join(filter(None, (found, window))) or "a smaller video"
    raise MotionCacheError(
        f"a window of {frames} frames needs {_sampling(needed) / GIB:.0f} GiB besides the weights, and "
        f"{free / GIB:.0f} GiB of {hidden_states.device} are free: pass {remedies}"
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes of a GPU that nothing is in; None for other devices."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _milder(policy: PolicyConfig) -> Iterator[tuple[str, PolicyConfig]]:
    """Policies that keep less, the mildest change first, with the arguments that choose them."""
    chosen: Any = policy
    for kv, split in ((KVStorage.int8, False), (KVStorage.host, False), (KVStorage.host, True)):
        if kv is not policy.kv or split:
            text = f"kv={kv.value!r}" + (", split_guidance=True" if split else "")
            yield text, replace(chosen, kv=kv, split_guidance=split or policy.split_guidance)


def _sampling(estimate: Footprint) -> int:
    return estimate.sampling - estimate.transformer


def _estimate(
    transformer: SkyReelsV2Transformer3DModel,
    hidden_states: torch.Tensor,
    shape: WindowShape,
    synchronous: bool,
    policy: PolicyConfig,
    chunks: int | None = None,
) -> Footprint:
    """What a window takes, or one of fewer chunks."""
    batch, _, _, height, width = hidden_states.shape
    chunks = chunks or shape.grid.chunks
    return memory(
        transformer,
        "",
        height=8 * height,  # of latents, which the released models make of 8 x 8 pixels
        width=8 * width,
        num_frames=_frames(chunks * shape.grid.chunk_frames),
        branches=batch * len(shape.branches),
        itemsize=hidden_states.dtype.itemsize,
        chunks=chunks,
        kept=kept_keys(policy, synchronous=synchronous),
        split_guidance=policy.split_guidance,
    )


def _frames(latent_frames: int) -> int:
    return 4 * (latent_frames - 1) + 1
