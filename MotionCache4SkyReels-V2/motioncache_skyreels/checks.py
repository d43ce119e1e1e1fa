"""Refuses calls for which diffusers' own sampling is unsound, before any work, and says what to pass instead."""

from collections.abc import Mapping
from typing import Any

import torch
from motioncache.errors import MotionCacheError


def check_chunks(pipeline: Any, call: Mapping[str, Any]) -> None:
    """Refuse sizes that do not divide into chunks.

    diffusers floors the number of chunks without a word: the latent frames that are left over come back as noise.

    Args:
        call: arguments of the pipeline's `prepare_latents`, by name.
    """
    block = call.get("causal_block_size") or pipeline.transformer.config.num_frame_per_block
    if block <= 1:
        return
    if call.get("last_image") is not None:
        raise MotionCacheError(
            f"last_image cannot be combined with chunks of {block} latent frames: the end frame would never reach the "
            "model. Sample synchronously with full attention: ar_step=0, causal_block_size=1"
        )
    factor = pipeline.vae_scale_factor_temporal
    frames = _latent_frames(call["num_frames"], factor)
    base, overlap = call.get("base_latent_num_frames"), call.get("overlap_history_latent_frames")
    if base is not None and base % block:
        lower, upper = (factor * (n * block - 1) + 1 for n in (base // block, base // block + 1))
        raise MotionCacheError(
            f"base_num_frames gives windows of {base} latent frames, which do not divide into chunks of {block}: pass "
            f"base_num_frames={max(lower, 1)} or {upper}"
        )
    if not _divides(frames, base, overlap, block):
        options = [_nearest(frames, step, base, overlap, block) for step in (-1, 1)]
        advice = " or ".join(str(factor * (n - 1) + 1) for n in options if n is not None)
        raise MotionCacheError(
            f"num_frames={call['num_frames']} does not divide into chunks of {block} latent frames ({frames} latent "
            f"frames): pass num_frames={advice}"
        )


def check_window(pending: Mapping[str, Any], *, frames: int, causal: bool, chunk_frames: int) -> None:
    """Refuse a schedule that the cache cannot follow.

    Args:
        pending: what `generate_timestep_matrix` returned, and the number of given latent frames.
        frames: latent frames that the transformer was called with.
        chunk_frames: latent frames of a chunk where attention is block-causal.
    """
    if any(tuple(interval) != (0, frames) for interval in pending["valid_interval"]):
        raise MotionCacheError(
            "this call moves its attention window while it denoises, which the cache does not support; pass "
            "base_num_frames of at least num_frames, or overlap_history for a long video"
        )
    if causal and pending["prefix_frames"] % chunk_frames:
        raise MotionCacheError(
            f"{pending['prefix_frames']} given latent frames do not fill chunks of {chunk_frames}: diffusers would "
            "overwrite them. Give whole chunks, or sample synchronously with full attention: ar_step=0, "
            "causal_block_size=1"
        )
    mask: torch.Tensor = pending["update_mask"]
    started = mask[:, mask.any(dim=0)]
    if not causal and bool((started != started[:, :1]).any()):
        raise MotionCacheError(
            "ar_step > 0 needs chunks: pass causal_block_size=5 as well (diffusers would otherwise let every frame "
            "attend to frames that have not started)"
        )


def _latent_frames(frames: int, factor: int) -> int:
    return (frames - 1) // factor + 1


def _divides(frames: int, base: int | None, overlap: int | None, block: int) -> bool:
    """Whether every window of a video of `frames` latent frames divides into chunks."""
    if base is None or overlap is None or frames <= base:
        return frames % block == 0
    window, done = base, base
    while done < frames:
        window = min(frames - done + overlap, base)
        done += window - overlap
        if window % block:
            return False
    return base % block == 0


def _nearest(frames: int, step: int, base: int | None, overlap: int | None, block: int) -> int | None:
    """The nearest number of latent frames in the direction of `step` that divides into chunks."""
    for candidate in range(frames + step, frames + step * (2 * block + 1), step):
        if candidate >= block and _divides(candidate, base, overlap, block):
            return candidate
    return None
