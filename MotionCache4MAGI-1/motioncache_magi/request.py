"""One call of the pipeline: its arguments, checked, and what follows from them for the sampler."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from motioncache.errors import MotionCacheError
from motioncache.field_types import shown
from motioncache.limits import check_limits
from motioncache_magi.given.frames import Frames
from motioncache_magi.given.pictures import Picture
from motioncache_magi.model.config import MagiConfig
from motioncache_magi.sampling.schedule import WindowSchedule
from motioncache_magi.text.special_tokens import TextSwitches

OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The arguments of one call, see `MagiPipeline.stream`, with everything filled in.

    Raises:
        MotionCacheError: if one is of another kind or out of range.
    """

    prompt: str
    image: Picture | Path | str | None
    video: Frames | Path | str | None
    num_frames: int
    height: int
    width: int
    num_inference_steps: int
    generator: torch.Generator | None
    latents: torch.Tensor | None
    output_type: str
    switches: TextSwitches

    def __post_init__(self) -> None:
        if not isinstance(self.output_type, str) or self.output_type not in OUTPUT_TYPES:
            types = ", ".join(OUTPUT_TYPES)
            raise MotionCacheError(f"output_type must be one of {types}, not {shown(self.output_type)}")
        _check_kind("prompt", self.prompt, str, "one text: a call samples one video")
        _check_kind("generator", self.generator, torch.Generator | None, "one torch.Generator")
        _check_kind("latents", self.latents, torch.Tensor | None, "a tensor")
        _check_kind("switches", self.switches, TextSwitches, "TextSwitches")
        sizes = ("num_frames", "height", "width", "num_inference_steps")
        check_limits({name: getattr(self, name) for name in sizes})
        if self.image is not None and self.video is not None:
            raise MotionCacheError("pass an image to start from or a video to go on from, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is sampled for a request.

    The official code adds the latent frame of an image to those that are asked for, and may sample a chunk more for it.
    The image counts as the video's first frames here, and that chunk is not sampled. But noise is drawn for it, and
    durations in front of captions count it, so that the frames before it are those of the official code.

    Attributes:
        prefix: latents of the given frames, `[channels, frames, height, width]`.
        hidden_frames: latent frames at the beginning that are not part of the video: those of a given video.
        announced_chunks: chunks that the official code samples, prefix included.
    """

    schedule: WindowSchedule
    prefix: torch.Tensor | None
    hidden_frames: int
    announced_chunks: int

    @classmethod
    def of(cls, config: MagiConfig, request: Request, prefix: torch.Tensor | None) -> "Plan":
        runtime = config.runtime
        given = 0 if prefix is None else prefix.shape[1]
        new = math.ceil(request.num_frames / runtime.temporal_downsample_factor)
        hidden = given if request.image is None else 0
        return cls(
            schedule=WindowSchedule.of(
                config,
                chunks=math.ceil((new + hidden) / runtime.chunk_width),
                prefix_frames=given,
                steps=request.num_inference_steps,
            ),
            prefix=prefix,
            hidden_frames=hidden,
            announced_chunks=math.ceil((new + given) / runtime.chunk_width),
        )


def noise_shape(config: MagiConfig, request: Request, chunks: int, patch: int) -> tuple[int, ...]:
    """The shape of the noise of so many chunks, (1, channels, frames, rows, columns).

    Args:
        patch: pixels per latent row and column.
    """
    frames = chunks * config.runtime.chunk_width
    return (1, config.model.latent_channels, frames, request.height // patch, request.width // patch)


def check_noise(latents: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Refuse latents that a request brings if they have another shape, or are not finite."""
    found = tuple(latents.shape)
    if found != shape or not latents.is_floating_point() or not latents.isfinite().all():
        kind = "are not finite" if found == shape else f"have the shape {found}"
        raise MotionCacheError(f"latents {kind}, and this call needs floats of the shape {shape}")


def draw_noise(config: MagiConfig, request: Request, plan: Plan, *, patch: int, device: str) -> torch.Tensor:
    """The noise of all chunks that are sampled, `[1, channels, frames, rows, columns]`, if the request brings none.

    Args:
        patch: see `noise_shape`.
        device: where it is drawn without a generator, seeded by the configuration.
    """
    generator = request.generator or torch.Generator(device).manual_seed(config.runtime.seed)
    announced = noise_shape(config, request, plan.announced_chunks, patch)
    sampled = plan.schedule.chunks * config.runtime.chunk_width
    return torch.randn(announced, generator=generator, device=generator.device)[:, :, :sampled]


def _check_kind(name: str, value: object, kind: Any, allowed: str) -> None:
    if not isinstance(value, kind):
        raise MotionCacheError(f"{name} must be {allowed}, not {shown(value)}")
