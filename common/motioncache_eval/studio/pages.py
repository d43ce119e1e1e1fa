"""The pages of one video, and of two beside each other."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache.summary import Summary
from motioncache_eval.metrics import IDENTICAL, Fidelity, fidelity
from motioncache_eval.page.build import draw_table, read_part, section, write_document
from motioncache_eval.page.view import make_view
from motioncache_eval.sampling import Sample
from motioncache_eval.studio.history import Entry
from motioncache_eval.studio.models import Wanted
from motioncache_eval.table import Table

PLAYERS = '<div class="players large" id="players"></div>'


def write_video_page(path: Path, wanted: Wanted, sample: Sample, view: Mapping[str, Any]) -> None:
    """Write the page of one video: a player, what was computed, and the figures."""
    figures = _figures(sample.seconds, sample.summary)
    main = f"{PLAYERS}{read_part('controls.html')}{read_part('legend.html')}{draw_table(_table(figures))}"
    _write(path, wanted.preset, wanted.job.prompt, main, {wanted.preset: {**view, "title": wanted.preset}})


def write_comparison(path: Path, reference: Entry, other: Entry) -> Fidelity:
    """Write the page of two videos in step, with their difference; return how far they are apart.

    Raises:
        MotionCacheError: if the videos differ in size or length.
    """
    frames, base = other.frames(), reference.frames()
    if frames.shape != base.shape:
        found = " and ".join(f"{len(one)} frames of {one.shape[2]}x{one.shape[1]}" for one in (base, frames))
        raise MotionCacheError(f"videos of different sizes cannot be compared: {found}")
    apart = fidelity(_floats(frames), _floats(base))
    names = (f"reference: {reference.report['preset']}", f"{other.report['preset']}")
    views: dict[str, dict[str, Any]] = {}
    for name, entry, video in zip(names, (reference, other), (base, frames), strict=True):
        view = make_view(
            video, fps=entry.report["config"]["fps"], trace=None, overlay=None,
            reference=base if entry is other else None,
        )  # fmt: skip
        views[name] = {**view, "title": name, "caption": f"{entry.report['seconds']:.1f} s"}
    main = (
        f"{PLAYERS}{read_part('controls.html')}{section('Figures', draw_table(_comparison(reference, other, apart)))}"
    )
    _write(path, f"{names[1]} beside {names[0]}", other.report["prompt"], main, views)
    return apart


def describe_distance(apart: Fidelity) -> str:
    """How far two videos are apart, in words."""
    if apart.psnr_db >= IDENTICAL:
        return "The frames are identical."
    return f"PSNR {apart.psnr_db:.1f} dB, SSIM {apart.ssim:.4f}, on the frames as they were made."


def _write(path: Path, heading: str, prompt: str, main: str, views: Mapping[str, Mapping[str, Any]]) -> None:
    lead = f'<p class="prompt">“{html.escape(prompt)}”</p>'
    data = {"videos": {prompt: views}, "chosen": [], "autoplay": True}
    write_document(path, heading=heading, lead=lead, main=main, data=data)


def _figures(seconds: float, summary: Summary | None) -> dict[str, str]:
    figures = {"seconds, with decoding": f"{seconds:.1f}"}
    if summary is None:
        return figures
    figures |= {
        "TFLOPs": f"{summary.flops / 1e12:.3g}",
        "fewer FLOPs than without a cache": f"{summary.vanilla_flops / max(summary.flops, 1):.2f}x",
        "tokens computed": f"{summary.computed_share:.0%}",
    }
    if summary.calibration is not None:
        figures["forecast with"] = summary.calibration
    if summary.forecast_errors is not None:
        errors = summary.forecast_errors
        figures["forecasts were off by"] = f"{errors.found:.1%}; {errors.expected:.1%} expected"
    return figures


def _table(figures: Mapping[str, str]) -> Table:
    return Table(title="What it took", header=("", "figure"), rows=[[name, text] for name, text in figures.items()])


def _comparison(reference: Entry, other: Entry, apart: Fidelity) -> Table:
    rows = [
        ["seconds, with decoding", *(f"{entry.report['seconds']:.1f}" for entry in (reference, other))],
        ["TFLOPs", *(_tflops(entry) for entry in (reference, other))],
        ["PSNR dB", "", f"{apart.psnr_db:.1f}"],
        ["SSIM", "", f"{apart.ssim:.4f}"],
    ]
    header = ("", "reference", str(other.report["preset"]))
    return Table(title="Cost, and distance from the reference", header=header, rows=rows)


def _tflops(entry: Entry) -> str:
    flops = entry.report["flops"]
    return "not counted" if flops is None else f"{flops / 1e12:.3g}"


def _floats(frames: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 `[frames, height, width, 3]` as float `[frames, 3, height, width]` in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
