"""The demo's page: one prompt sampled with every preset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from motioncache_eval.page.build import Page, write_page
from motioncache_eval.page.view import make_overlay, make_view
from motioncache_eval.sampling import Sample
from motioncache_eval.table import Table
from motioncache_eval.video import to_uint8


def make_views(
    samples: Mapping[str, Sample],
    videos: Mapping[str, torch.Tensor],
    results: Mapping[str, Mapping[str, float]],
    weights: Mapping[int, torch.Tensor],
    fps: int,
) -> dict[str, dict[str, Any]]:
    """What the page shows of every preset.

    Args:
        weights: motion weights by chunk, which the last preset had.
    """
    views: dict[str, dict[str, Any]] = {}
    last = list(samples)[-1]
    for preset, sample in samples.items():
        overlay = None if sample.trace is None else make_overlay(sample.trace, weights if preset == last else {})
        view = make_view(to_uint8(videos[preset]), fps=fps, trace=sample.trace, overlay=overlay)
        result = results[preset]
        views[preset] = {**view, "caption": f"{result['speedup']:.2f}x, {result['psnr_db']:.1f} dB"}
    return views


def write_demo_page(path: Path, settings: Any, table: Table, views: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the page.

    Args:
        settings: the job's configuration.
        table: the figures, a row for each preset.
        views: what is shown of each preset, see `make_views`.
    """
    write_page(
        path,
        Page(
            heading="MotionCache, one prompt",
            lead=f"{settings.num_frames} frames of {settings.width}x{settings.height}, {settings.num_inference_steps} "
            "denoise steps. PSNR and SSIM against vanilla on decoded frames; 120 dB stands for identical.",
            tables=[table],
            points=[],
            videos={settings.prompt: views},
        ),
    )
