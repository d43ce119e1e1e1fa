"""Clips that autoencoders are trained on, the losses, and how well an autoencoder reconstructs clips."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import l1_loss, mse_loss

from motioncache_eval.scenes import Scene, draw_scene, draw_split, render
from motioncache_train.loop import Losses


def to_model(video: np.ndarray) -> torch.Tensor:
    """Convert uint8 `[frames, height, width, 3]` to float32 `[1, 3, frames, height, width]` in [-1, 1]."""
    return torch.from_numpy(video).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def draw_clip(rng: np.random.Generator, *, frames: int, scene: Scene | None = None) -> torch.Tensor:
    """Render one clip of a scene; None draws the scene."""
    return to_model(render(scene or draw_scene(rng), rng, frames=frames)[0])


def draw_crops(rng: np.random.Generator, lengths: tuple[int, ...], batch: int, size: tuple[int, int]) -> torch.Tensor:
    """Draw crops of clips, `[batch, 3, frames, *size]`, whose number of frames is one of `lengths`."""
    frames = int(rng.choice(lengths))
    return torch.cat([_crop(rng, frames, *size) for _ in range(batch)])


def _crop(rng: np.random.Generator, frames: int, height: int, width: int) -> torch.Tensor:
    top, left = rng.integers(0, 64 - height + 1), rng.integers(0, 96 - width + 1)
    return draw_clip(rng, frames=frames)[..., top : top + height, left : left + width]


def reconstruction(decoded: torch.Tensor, clip: torch.Tensor, *, first_frame: float = 1.0) -> Losses:
    """Compute absolute and squared error of `[batch, 3, frames, height, width]`.

    Args:
        first_frame: weight of the first frame in units of that of any other frame.
    """
    weight = torch.ones(clip.shape[2], device=clip.device)
    weight[0] = first_frame
    weight = (weight / weight.mean()).view(1, 1, -1, 1, 1)
    absolute = (weight * l1_loss(decoded, clip, reduction="none")).mean()
    squared = (weight * mse_loss(decoded, clip, reduction="none")).mean()
    return {"loss": absolute + 4 * squared, "l1": absolute, "mse": squared}


class Validation:
    """Measures the PSNR (dB) of whole clips that are never trained on, and of their first frames.

    The captions of these clips belong to the validation split; in its training an autoencoder sees other clips of the
    same captions.

    Args:
        reconstruct: runs an autoencoder over `[1, 3, frames, height, width]` and returns the decoded clip.
    """

    def __init__(
        self,
        reconstruct: Callable[..., torch.Tensor],
        *,
        seed: int,
        device: str,
        frames: int = 97,
        clips: int = 8,
    ) -> None:
        self._reconstruct = reconstruct
        self._device = device
        self._clips: list[torch.Tensor] = []
        for i in range(clips):
            rng = np.random.default_rng((seed, 1, i))
            self._clips.append(draw_clip(rng, frames=frames, scene=draw_split(rng, held_out=True)))

    @torch.inference_mode()
    def __call__(self, autoencoder: torch.nn.Module) -> dict[str, float]:
        """Compute the mean over the clips and the lowest value, of whole clips and of first frames."""
        errors: list[torch.Tensor] = []  # one per clip, [frames]
        for clip in self._clips:
            clip = clip.to(self._device)
            decoded = self._reconstruct(autoencoder, clip)
            errors.append(((decoded - clip) / 2).square().mean((0, 1, 3, 4)))
        error = torch.stack(errors)
        whole = -10 * error.mean(1).log10()
        first = -10 * error[:, 0].log10()
        return {
            "psnr_db": float(whole.mean()),
            "first_frame_psnr_db": float(first.mean()),
            "lowest_psnr_db": float(whole.min()),
            "lowest_first_frame_psnr_db": float(first.min()),
        }
