"""Fidelity of a video against its uncached twin, on decoded frames in [0, 1] before any encoder."""

from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from motioncache.errors import MotionCacheError

MOVING = 0.03
"""A patch moves if its mean change from one frame to the next, in values from 0 to 1, is larger than this."""

_SMALLEST_MSE = 1e-12
"""Smaller mean squared errors count as this one."""

IDENTICAL = 120.0
"""PSNR (dB) of that error, which identical videos have."""

_ONE_GREY_LEVEL = 1 / 255
"""A video whose values differ by less than this shows one colour."""

_WINDOW, _SIGMA = 11, 1.5
"""Width and standard deviation of the Gaussian window of SSIM, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How near a video is to its reference.

    Attributes:
        psnr_db: PSNR from the mean squared error of the whole video, at most 120.
        ssim: SSIM, the mean over frames.
    """

    psnr_db: float
    ssim: float


def require_picture(video: torch.Tensor) -> None:
    """Refuse a video, float `[frames, 3, height, width]`, that shows nothing.

    Raises:
        MotionCacheError: for values that are NaN or infinite, and for one colour in all frames; no figure of such a
            video would mean anything, and two of them would count as identical.
    """
    _require_finite(video)
    least, most = (limit(video.flatten(2).transpose(1, 2).flatten(0, 1), dim=0) for limit in (torch.amin, torch.amax))
    if bool((most - least < _ONE_GREY_LEVEL).all()):
        colour = ", ".join(f"{value:.2f}" for value in most.tolist())
        name = "black" if bool((most < _ONE_GREY_LEVEL).all()) else f"of one colour ({colour})"
        raise MotionCacheError(f"the video is {name} in all of its {len(video)} frames: nothing can be measured on it")


def _require_finite(*videos: torch.Tensor) -> None:
    """Refuse videos with values that are NaN or infinite."""
    for video in videos:
        broken = (~video.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        if broken:
            raise MotionCacheError(
                f"{len(broken)} of the video's {len(video)} frames hold values that are NaN or infinite, the first of "
                f"them frame {broken[0]}: it cannot be compared"
            )


def fidelity(video: torch.Tensor, reference: torch.Tensor) -> Fidelity:
    """Compare two videos, float `[frames, 3, height, width]` in [0, 1]."""
    if video.shape != reference.shape:
        raise ValueError(f"videos of shapes {tuple(video.shape)} and {tuple(reference.shape)} cannot be compared")
    return Fidelity(psnr_db=psnr(video, reference), ssim=ssim(video, reference))


def psnr(video: torch.Tensor, reference: torch.Tensor) -> float:
    """-10 log10 of the mean squared error over the whole video; at most 120 dB, which identical videos have."""
    _require_finite(video, reference)
    return float(_decibels((video.double() - reference.double()).square().mean()))


def psnr_of_frames(video: torch.Tensor, reference: torch.Tensor) -> list[float]:
    """PSNR of every frame by itself."""
    _require_finite(video, reference)
    return _decibels((video.double() - reference.double()).square().mean(dim=(1, 2, 3))).tolist()


def moving_pixels(video: torch.Tensor, patch: int = 8) -> torch.Tensor:
    """The pixels that lie in a patch that moves, bool `[frames, height, width]`.

    A patch moves if it differs from the same patch of the frame before. The first frame has the mask of the second; a
    video of one frame does not move.
    """
    size = video.shape[-2:]
    if len(video) == 1:
        return torch.zeros(1, *size, dtype=torch.bool)
    change = video.diff(dim=0).abs().mean(dim=1, keepdim=True)
    moving = avg_pool2d(change, patch, ceil_mode=True, count_include_pad=False) > MOVING
    moving = interpolate(moving.float(), scale_factor=patch)[:, 0, : size[0], : size[1]] > 0
    return torch.cat([moving[:1], moving])


def psnr_where(video: torch.Tensor, reference: torch.Tensor, where: torch.Tensor) -> float | None:
    """PSNR over the pixels of the mask `where`, bool `[frames, height, width]`; None if it is empty."""
    _require_finite(video, reference)
    if not bool(where.any()):
        return None
    return float(_decibels((video.double() - reference.double()).square().mean(dim=1)[where].mean()))


def _decibels(error: torch.Tensor) -> torch.Tensor:
    """PSNR of mean squared errors."""
    return -10 * error.clamp(min=_SMALLEST_MSE).log10()


def ssim(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean structural similarity per channel: Gaussian window of 11x11, sigma 1.5, data range 1, mirrored borders."""
    _require_finite(video, reference)
    scores = [_ssim_map(a[None], b[None]).mean() for a, b in zip(video.double(), reference.double(), strict=True)]
    return float(torch.stack(scores).mean())


def _ssim_map(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Structural similarity of two frames `[1, 3, height, width]` around every pixel, in the same shape."""
    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (var_a + var_b + c2)


def _blur(x: torch.Tensor) -> torch.Tensor:
    """The mean over the Gaussian window around every pixel."""
    half = _WINDOW // 2
    offsets = torch.arange(-half, half + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = pad(x, (half, half, half, half), mode="reflect")
    x = conv2d(x, kernel[..., None, :], groups=x.shape[1])
    return conv2d(x, kernel[..., :, None], groups=x.shape[1])
