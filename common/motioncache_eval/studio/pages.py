"""The pages of one video, of one in the making, and of two beside each other."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from motioncache.errors import MotionCacheError
from motioncache_eval.metrics import IDENTICAL, Fidelity, fidelity
from motioncache_eval.page.build import draw_document, draw_table, read_part, write_document
from motioncache_eval.page.view import difference, sprite
from motioncache_eval.studio.history import Entry
from motioncache_eval.studio.models import VANILLA
from motioncache_eval.table import Table

PLAYERS = '<div class="players large" id="players"></div>'

Report = Mapping[str, Any]
"""The figures of a video, as its JSON file has them."""


def write_video_page(path: Path, report: Report, view: Mapping[str, Any]) -> None:
    """Write the page of one video: a player, what was computed, and the figures."""
    legend = read_part("legend.html") if view["decisions"] else ""
    main = f"{PLAYERS}{read_part('controls.html')}{legend}<section>{draw_table(_table(report))}</section>"
    name = describe_preset(report)
    views = {name: {**view, "title": f"{report['frames']} frames"}}
    data = {"videos": {report["prompt"]: views}, "chosen": [], "autoplay": True}
    write_document(path, heading=name, lead=_prompt(report), main=main, data=data)


def draw_live_page(entry: str, report: Report) -> str:
    """The page that follows a video in the making."""
    main = read_part("live.html").replace("[[LEGEND]]", read_part("legend.html"))
    config = report["config"]
    data = {"entry": entry, "fps": config["fps"], "width": config["width"]}
    return draw_document(heading=describe_preset(report), lead=_prompt(report), main=main, data=data, script="live.js")


def write_comparison(path: Path, reference: Entry, other: Entry) -> Fidelity:
    """Write the page of two videos in step, with a wipe and their difference; return how far they are apart.

    Raises:
        MotionCacheError: if the videos differ in size or length.
    """
    frames, base = other.frames(), reference.frames()
    if frames.shape != base.shape:
        found = " and ".join(f"{len(one)} frames of {one.shape[2]}x{one.shape[1]}" for one in (base, frames))
        raise MotionCacheError(f"videos of different sizes cannot be compared: {found}")
    apart = fidelity(_floats(frames), _floats(base))
    names = [f"reference: {describe_preset(reference.report)}", describe_preset(other.report)]
    videos = [
        {**sprite(video), "title": name, "caption": _cost(entry.report), "decisions": entry.report["decisions"]}
        for name, entry, video in zip(names, (reference, other), (base, frames), strict=True)
    ]
    shown = sprite(difference(frames, base))["sprite"]
    legend = read_part("legend.html") if any(video["decisions"] for video in videos) else ""
    main = f"{read_part('compare.html')}{legend}<section>{draw_table(_comparison(reference, other, apart))}</section>"
    data = {"videos": videos, "difference": shown, "fps": other.report["config"]["fps"]}
    heading = f"{names[1]} beside {names[0]}"
    write_document(path, heading=heading, lead=_prompt(other.report), main=main, data=data, script="compare.js")
    return apart


def describe_preset(report: Report) -> str:
    """What a video was sampled with, in words."""
    target, preset = report["config"].get("target_speedup"), report["preset"]
    if preset == VANILLA:
        return "without a cache"
    return preset if target is None else f"{preset}, {target:g} times fewer FLOPs"


def describe_distance(apart: Fidelity) -> str:
    """How far two videos are apart, in words."""
    if apart.psnr_db >= IDENTICAL:
        return "The frames are identical."
    return f"PSNR {apart.psnr_db:.1f} dB, SSIM {apart.ssim:.4f}, on the frames as they were made."


def _prompt(report: Report) -> str:
    return f'<p class="prompt">“{html.escape(report["prompt"])}”</p>'


def _cost(report: Report) -> str:
    flops = "" if report["flops"] is None else f", {report['flops'] / 1e12:.3g} TFLOPs"
    return f"{report['seconds']:.1f} s{flops}"


def _table(report: Report) -> Table:
    figures = {"seconds, with decoding": f"{report['seconds']:.1f}"}
    if report["flops"] is not None:
        figures["TFLOPs"] = f"{report['flops'] / 1e12:.3g}"
    summary = report["summary"]
    if summary is not None:
        figures["fewer FLOPs than without a cache"] = f"{summary['vanilla_flops'] / max(summary['flops'], 1):.2f} times"
        figures["tokens computed"] = f"{summary['computed_share']:.0%}"
        errors = summary["forecast_errors"]
        if errors is not None:
            figures["forecasts were off by"] = f"{errors['found']:.1%}"
            figures["expected"] = f"{errors['expected']:.1%}"
    return Table(title="What it took", header=("", "figure"), rows=[[name, text] for name, text in figures.items()])


def _comparison(reference: Entry, other: Entry, apart: Fidelity) -> Table:
    reports = (reference.report, other.report)
    rows = [
        ["seconds, with decoding", *(f"{report['seconds']:.1f}" for report in reports)],
        ["TFLOPs", *("not counted" if r["flops"] is None else f"{r['flops'] / 1e12:.3g}" for r in reports)],
        ["PSNR", "", "identical" if apart.psnr_db >= IDENTICAL else f"{apart.psnr_db:.1f} dB"],
        ["SSIM", "", f"{apart.ssim:.4f}"],
    ]
    header = ("", "reference", describe_preset(other.report))
    return Table(title="Cost, and distance from the reference", header=header, rows=rows)


def _floats(frames: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 `[frames, height, width, 3]` as float `[frames, 3, height, width]` in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
