"""Refuses sampled latents that no video can be made of."""

import torch

from motioncache.errors import MotionCacheError


def check_latents(latents: torch.Tensor, *, first_frame: int = 0) -> None:
    """Refuse latents that are not finite; it waits for the device once.

    Args:
        latents: `[..., frames, height, width]`.
        first_frame: number of the first of these latent frames in the video.

    Raises:
        MotionCacheError: it names the first such latent frame.
    """
    least, greatest = latents.detach().aminmax()  # as in `checkpoints.check_finite`
    if least.isfinite() and greatest.isfinite():
        return
    finite = latents.isfinite().movedim(-3, 0).flatten(1).all(dim=1)  # [frames]
    frame = first_frame + int((~finite).int().argmax())
    raise MotionCacheError(
        f"latent frame {frame} was sampled as NaN or infinite, and the video would be black: compute in float32 or "
        "bfloat16, take a smaller guidance, or look for what changed the weights"
    )
