"""Perceptual distances of a video from its uncached twin, from optional packages."""

import importlib.util
import statistics

import torch

from motioncache_eval.lpips import lpips, weights_file


def perceptual(video: torch.Tensor, reference: torch.Tensor) -> dict[str, float | None]:
    """FLIP (Andersson et al., 2020) and LPIPS, means over the frames; 0 for identical videos, None if not installed.

    Args:
        video, reference: float `[frames, 3, height, width]` in [0, 1].
    """
    weights = weights_file()
    return {
        "flip": flip(video, reference) if importlib.util.find_spec("flip_evaluator") else None,
        "lpips": None if weights is None else lpips(video, reference, weights),
    }


def flip(video: torch.Tensor, reference: torch.Tensor) -> float:
    """FLIP at the package's own viewing distance (67 pixels per degree)."""
    from flip_evaluator import evaluate

    pairs = zip(video.permute(0, 2, 3, 1).float(), reference.permute(0, 2, 3, 1).float(), strict=True)
    return statistics.mean(
        float(evaluate(b.contiguous().numpy(), a.contiguous().numpy(), "LDR", applyMagma=False)[1]) for a, b in pairs
    )
