"""The main job's page: one prompt under all tiers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from motioncache_eval.page.build import Page, write_page
from motioncache_eval.page.view import make_overlay, make_view
from motioncache_eval.sampling import Sample
from motioncache_eval.table import Table
from motioncache_eval.video import to_uint8


def views(
    samples: Mapping[str, Sample],
    videos: Mapping[str, torch.Tensor],
    results: Mapping[str, Mapping[str, float]],
    weights: Mapping[int, torch.Tensor],
    fps: int,
) -> dict[str, dict[str, Any]]:
    """What the page shows of every tier; motion weights belong to the last one."""
    made: dict[str, dict[str, Any]] = {}
    for tier, taken in samples.items():
        own = weights if tier == list(samples)[-1] else {}
        overlay = None if taken.trace is None else make_overlay(taken.trace, own)
        view = make_view(to_uint8(videos[tier]), fps=fps, trace=taken.trace, overlay=overlay)
        made[tier] = {**view, "caption": f"{results[tier]['speedup']:.2f}x, {results[tier]['psnr_db']:.1f} dB"}
    return made


def write_job_page(
    path: Path,
    settings: Any,
    table: Table,
    views: Mapping[str, Mapping[str, Any]],
) -> None:
    """The page, from the job's configuration, its table (a row for each tier) and its videos."""
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
