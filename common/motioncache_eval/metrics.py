"""Fidelity of a video against its uncached twin, on decoded frames in [0, 1] before any encoder."""

from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

MOVING = 0.03
"""Change of a patch from frame to frame, of a range of 1, from which on it counts as moving."""

_BEST_MSE = 1e-12
_WINDOW, _SIGMA = 11, 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """PSNR (dB) from the mean squared error of the whole video, at most 120, and SSIM, the mean over frames."""

    psnr_db: float
    ssim: float


def fidelity(video: torch.Tensor, reference: torch.Tensor) -> Fidelity:
    """Compare two videos, float `[frames, 3, height, width]` in [0, 1]."""
    if video.shape != reference.shape:
        raise ValueError(f"videos of shapes {tuple(video.shape)} and {tuple(reference.shape)} cannot be compared")
    return Fidelity(psnr_db=psnr(video, reference), ssim=ssim(video, reference))


def psnr(video: torch.Tensor, reference: torch.Tensor) -> float:
    """-10 log10 of one mean squared error over the whole video; 120 dB where that is under 1e-12 (identical videos)."""
    error = (video.double() - reference.double()).square().mean().clamp(min=_BEST_MSE)
    return float(-10 * error.log10())


def psnr_of_frames(video: torch.Tensor, reference: torch.Tensor) -> list[float]:
    """PSNR of every frame by itself."""
    error = (video.double() - reference.double()).square().mean(dim=(1, 2, 3)).clamp(min=_BEST_MSE)
    return (-10 * error.log10()).tolist()


def moving_pixels(video: torch.Tensor, patch: int = 8) -> torch.Tensor:
    """Which pixels lie in a patch that changes from the frame before, bool `[frames, height, width]`.

    The first frame takes the second's; a video of one frame does not move.
    """
    size = video.shape[-2:]
    if len(video) == 1:
        return torch.zeros(1, *size, dtype=torch.bool)
    change = video.diff(dim=0).abs().mean(dim=1, keepdim=True)
    moving = avg_pool2d(change, patch, ceil_mode=True, count_include_pad=False) > MOVING
    moving = interpolate(moving.float(), scale_factor=patch)[:, 0, : size[0], : size[1]] > 0
    return torch.cat([moving[:1], moving])


def psnr_where(video: torch.Tensor, reference: torch.Tensor, where: torch.Tensor) -> float | None:
    """PSNR over the pixels of bool `[frames, height, width]`; None where there are none."""
    if not bool(where.any()):
        return None
    error = (video.double() - reference.double()).square().mean(dim=1)[where].mean().clamp(min=_BEST_MSE)
    return float(-10 * error.log10())


def ssim(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean structural similarity: Gaussian window of 11x11, sigma 1.5, data range 1, mirrored borders, per channel."""
    scores = [_ssim_map(a[None], b[None]).mean() for a, b in zip(video.double(), reference.double(), strict=True)]
    return float(torch.stack(scores).mean())


def _ssim_map(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`[1, 3, height, width]` twice -> the same shape."""
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (var_a + var_b + c2)


def _blur(x: torch.Tensor) -> torch.Tensor:
    half = _WINDOW // 2
    offsets = torch.arange(-half, half + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = pad(x, (half, half, half, half), mode="reflect")
    x = conv2d(x, kernel[..., None, :], groups=x.shape[1])
    return conv2d(x, kernel[..., :, None], groups=x.shape[1])
