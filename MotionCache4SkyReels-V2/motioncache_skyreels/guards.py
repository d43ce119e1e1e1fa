"""Refuses calls that diffusers itself samples wrongly, before any work is done, and says what to pass instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motioncache.errors import MotionCacheError
from motioncache.limits import check_limits
from motioncache_skyreels.schedule import Matrices


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSize:
    """The length of a video, and of its windows and chunks.

    Args:
        num_frames: frames of the whole video.
        chunk: latent frames of a chunk; 1 for attention over the whole window.
        factor: frames per latent frame.
        base: latent frames of a window; None for a video of one window.
        overlap: latent frames that two windows share; None for a video of one window.
    """

    num_frames: int
    chunk: int
    factor: int
    base: int | None = None
    overlap: int | None = None

    @classmethod
    def of_call(cls, pipeline: Any, call: Mapping[str, Any]) -> "VideoSize":
        """The size that a call asks for.

        Args:
            call: arguments of the pipeline's `prepare_latents`, by name.
        """
        return cls(
            num_frames=call["num_frames"],
            chunk=call.get("causal_block_size") or pipeline.transformer.config.num_frame_per_block,
            factor=pipeline.vae_scale_factor_temporal,
            base=call.get("base_latent_num_frames"),
            overlap=call.get("overlap_history_latent_frames"),
        )

    @property
    def latent_frames(self) -> int:
        return (self.num_frames - 1) // self.factor + 1

    @property
    def windows(self) -> int:
        """The number of windows that diffusers samples."""
        if self.base is None or self.overlap is None or self.latent_frames <= self.base:
            return 1
        return 2 + (self.latent_frames - self.base - 1) // (self.base - self.overlap)

    def divides(self, frames: int) -> bool:
        """Whether every window of a video of `frames` latent frames divides into chunks."""
        if self.base is None or self.overlap is None or frames <= self.base:
            return frames % self.chunk == 0
        rest = (frames - self.base - 1) % (self.base - self.overlap) + 1  # latent frames that the last window adds
        return self.base % self.chunk == 0 and (rest + self.overlap) % self.chunk == 0

    def frames_of(self, latent_frames: int) -> int:
        """The frames of so many latent frames."""
        return self.factor * (latent_frames - 1) + 1


def check_call(pipeline: Any, call: Mapping[str, Any]) -> None:
    """Refuse arguments out of range, and windows that would not move on.

    Args:
        call: arguments of the pipeline's call, by name, defaults included.

    Raises:
        MotionCacheError: diffusers would loop for ever, divide by zero, or sample noise.
    """
    shift = pipeline.scheduler.config.get("flow_shift")
    check_limits({**call, "flow_shift": shift}, optional=("overlap_history", "causal_block_size", "flow_shift"))
    for name in ("height", "width"):
        if call[name] % 16:
            raise MotionCacheError(f"{name} must be a multiple of 16, not {call[name]}")
    frames, base = call["num_frames"], call["base_num_frames"]
    if frames <= base and "video" not in call:  # a given video is taken for a window, however short the new one is
        return
    if call["overlap_history"] is None:
        raise MotionCacheError(
            f"num_frames={frames} exceeds base_num_frames={base}, or goes on from a video: pass overlap_history=17"
        )
    check_windows(VideoSize.of_call(pipeline, _in_latent_frames(call, pipeline.vae_scale_factor_temporal)))


def _in_latent_frames(call: Mapping[str, Any], factor: int) -> dict[str, Any]:
    """The arguments of a call of a long video, as the pipeline passes them to its `prepare_latents`."""
    base, overlap = ((call[name] - 1) // factor + 1 for name in ("base_num_frames", "overlap_history"))
    return {**call, "base_latent_num_frames": base, "overlap_history_latent_frames": overlap}


def check_windows(size: VideoSize) -> None:
    """Refuse windows that do not divide into chunks, that share all their frames, or that share a part of a chunk.

    diffusers gives a window only the whole chunks of what it shares, and drops the rest of what is shared all the same.
    """
    if size.base is None or size.overlap is None:
        return
    if size.base % size.chunk:
        raise MotionCacheError(
            f"base_num_frames gives windows of {size.base} latent frames, which do not divide into chunks of "
            f"{size.chunk}: pass base_num_frames={_around(size, size.base)}"
        )
    if size.overlap >= size.base or size.base == size.chunk:
        raise MotionCacheError(
            f"overlap_history of {size.overlap} latent frames leaves windows of {size.base} latent frames nothing to "
            f"sample: pass overlap_history={size.frames_of(size.chunk)} and a base_num_frames of "
            f"{size.frames_of(2 * size.chunk)} or more"
        )
    if size.overlap % size.chunk:
        raise MotionCacheError(
            f"overlap_history gives windows that share {size.overlap} latent frames, which do not divide into chunks "
            f"of {size.chunk}: pass overlap_history={_around(size, size.overlap, below=size.base)}"
        )


def check_chunks(size: VideoSize) -> None:
    """Refuse a length that does not divide into chunks.

    diffusers rounds the number of chunks down without a warning, and returns the remaining latent frames as noise.
    """
    frames = size.latent_frames
    if not size.divides(frames):
        nearest = [_nearest(size, step) for step in (-1, 1)]
        options = [size.frames_of(n) for n in nearest if n is not None]
        raise MotionCacheError(
            f"num_frames={size.num_frames} does not divide into chunks of {size.chunk} latent frames ({frames} latent "
            f"frames): pass num_frames={' or '.join(map(str, options))}"
        )


def check_end_frame(size: VideoSize, last_image: object) -> None:
    """Refuse an end frame if the video is sampled in chunks."""
    if last_image is not None and size.chunk > 1:
        raise MotionCacheError(
            f"last_image cannot be combined with chunks of {size.chunk} latent frames: the end frame would never reach "
            "the model. Sample synchronously with full attention: ar_step=0, causal_block_size=1"
        )


def check_window(matrices: Matrices, *, frames: int, causal: bool, chunk_frames: int) -> None:
    """Refuse a schedule that the cache cannot follow.

    Args:
        frames: latent frames that the transformer was called with.
        causal: whether attention is block-causal.
        chunk_frames: latent frames of a chunk if attention is block-causal.
    """
    if any(tuple(interval) != (0, frames) for interval in matrices.valid_interval):
        raise MotionCacheError(
            "this call moves its attention window while it denoises, which the cache does not support; pass "
            "base_num_frames of at least num_frames, or overlap_history for a long video"
        )
    if causal and matrices.prefix_frames % chunk_frames:
        raise MotionCacheError(
            f"{matrices.prefix_frames} given latent frames do not fill chunks of {chunk_frames}: diffusers would "
            "overwrite them. Give whole chunks, or sample synchronously with full attention: ar_step=0, "
            "causal_block_size=1"
        )
    mask = matrices.update_mask
    started = mask[:, mask.any(dim=0)]
    if not causal and bool((started != started[:, :1]).any()):
        raise MotionCacheError(
            "ar_step > 0 needs chunks: pass causal_block_size=5 as well (diffusers would otherwise let every frame "
            "attend to frames that have not started)"
        )


def _nearest(size: VideoSize, step: int) -> int | None:
    """The nearest number of latent frames in the direction of `step` that divides into chunks."""
    frames = size.latent_frames
    candidates = range(frames + step, frames + step * (2 * size.chunk + 1), step)
    return next((n for n in candidates if n >= size.chunk and size.divides(n)), None)


def _around(size: VideoSize, latent_frames: int, *, below: int | None = None) -> str:
    """The frames of the nearest whole chunks, as alternatives.

    Args:
        below: latent frames that they have to be less than.
    """
    whole = latent_frames // size.chunk * size.chunk
    options = [n for n in (whole, whole + size.chunk) if n and (below is None or n < below)]
    return " or ".join(str(size.frames_of(n)) for n in options)
