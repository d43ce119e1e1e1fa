"""The main job: one prompt without a cache, with the exact tier and with a preset, compared.

A model's package loads its pipeline and says how it is called; everything else is here.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from motioncache.config import PolicyConfig
from motioncache.errors import MotionCacheError
from motioncache.policies.none import NoCacheConfig
from motioncache_eval.figures import draw_decisions
from motioncache_eval.job_page import views, write_job_page
from motioncache_eval.metrics import fidelity
from motioncache_eval.motion_map import MotionRecorder
from motioncache_eval.report import environment, write_json
from motioncache_eval.sampling import Sample, take_sample
from motioncache_eval.table import Table
from motioncache_eval.video import enlarge, side_by_side, to_uint8, write_mp4

WATCHABLE_WIDTH = 320

FIGURES = ("seconds", "speed-up", "TFLOPs", "computed", "PSNR dB", "SSIM")


@dataclass(frozen=True, slots=True, kw_only=True)
class MainJob:
    """A loaded pipeline and how to call it.

    Attributes:
        settings: the job's configuration, a dataclass with at least `preset`, `prompt`, `output`, `fps`, `device`,
            `num_frames`, `num_inference_steps`, `height` and `width`.
        policy: what the preset stands for.
        call: samples the prompt and returns latents, cached or not as the pipeline stands.
        warm_up: a short call, so that no tier pays for first-time allocations.
        decode: latents to float frames `[frames, 3, height, width]` in [0, 1] on the host.
        progress: sets options of the pipeline's progress bar.
        branch: CFG branch whose decisions are drawn.
    """

    settings: Any
    policy: PolicyConfig
    pipeline: object
    call: Callable[[], torch.Tensor]
    warm_up: Callable[[], object]
    decode: Callable[[torch.Tensor], torch.Tensor]
    progress: Callable[..., object]
    branch: str


def run_main_job(job: MainJob) -> int:
    """Produce the results in a new folder, and print the table."""
    settings = job.settings
    folder = create_folder(Path(settings.output), settings.preset)
    size = f"{settings.num_frames} frames of {settings.width}x{settings.height}"
    print(f'prompt: "{settings.prompt}"\n{size}, writing to {folder}')
    try:
        results = produce(folder, job)
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # only if nothing was written to it
        raise
    print_table(results)
    print(f"results are in {folder}")
    return 0


def produce(folder: Path, job: MainJob) -> dict[str, dict[str, float]]:
    """Sample all tiers, and write videos, the picture of the decisions, `run.json` and the page."""
    started = time.perf_counter()
    job.progress(desc="warming up", leave=False)
    job.warm_up()
    recorder = MotionRecorder(job.branch)
    samples = sample_tiers(job, recorder)
    weights = recorder.weights()
    videos = {tier: job.decode(taken.latents) for tier, taken in samples.items()}
    results = measure(samples, videos)
    write_videos(folder, videos, job.settings.fps)
    name = list(samples)[-1]
    trace = samples[name].trace
    assert trace is not None
    motion = recorder.motion_map(trace, to_uint8(videos[name]))
    title = f"{name}: what was computed ({job.branch} branch)"
    draw_decisions(folder / "decisions.png", trace, motion, title=title, branch=job.branch)
    seconds = time.perf_counter() - started
    write_json(folder / "run.json", {**run_report(job, samples, results), "seconds_of_whole_run": seconds})
    rows = [[tier, *figures_of(result)] for tier, result in results.items()]
    shown = views(samples, videos, results, weights, job.settings.fps)
    table = Table(title="Cost and fidelity of every tier", header=["", *FIGURES], rows=rows)
    write_job_page(folder / "report.html", job.settings, table, shown)
    return results


def run_report(job: MainJob, samples: dict[str, Sample], results: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Configuration, versions, and what every tier gave, as a whole and by chunk."""
    chunks = {tier: taken.summary.chunks for tier, taken in samples.items() if taken.summary is not None}
    policy: Any = job.policy
    return {
        "config": asdict(job.settings),
        "policy": {"name": type(policy).__name__, **asdict(policy)},
        **environment(job.settings.device),
        "results": results,
        "chunks": {tier: [asdict(chunk) for chunk in rows] for tier, rows in chunks.items()},
    }


def sample_tiers(job: MainJob, recorder: MotionRecorder) -> dict[str, Sample]:
    """Vanilla, exact and the chosen preset, the last one under its own name (`preset` if that name is taken).

    The preset is sampled first: if a video of this size cannot be sampled with it, nothing was waited for.
    """
    tiers: dict[str, PolicyConfig | None] = {"vanilla": None, "exact": NoCacheConfig()}
    if not isinstance(job.policy, NoCacheConfig):
        name = Path(job.settings.preset).stem
        tiers["preset" if name in tiers else name] = job.policy
    shown = list(tiers)[-1]
    samples: dict[str, Sample] = {}
    for tier in (shown, *list(tiers)[:-1]):
        job.progress(desc=tier.ljust(8), leave=True, mininterval=0.5)
        prepare = recorder.attach if tier == shown else None
        samples[tier] = take_sample(job.pipeline, job.call, tiers[tier], device=job.settings.device, prepare=prepare)
    return {tier: samples[tier] for tier in tiers}


def measure(samples: dict[str, Sample], videos: dict[str, torch.Tensor]) -> dict[str, dict[str, float]]:
    """Figures of every tier against vanilla; the FLOPs of vanilla are those that run, hidden pairs included."""
    vanilla, counted = samples["vanilla"], samples["exact"].summary
    assert counted is not None
    results: dict[str, dict[str, float]] = {}
    for tier, taken in samples.items():
        quality = fidelity(videos[tier], videos["vanilla"])
        difference = (taken.latents.float() - vanilla.latents.float()).abs().max()
        results[tier] = {
            "seconds": taken.seconds,
            "speedup": vanilla.seconds / taken.seconds,
            "flops": counted.vanilla_flops if taken.summary is None else taken.summary.flops,
            "psnr_db": quality.psnr_db,
            "ssim": quality.ssim,
            "max_abs_latent_difference": float(difference),
            "computed_share": 1.0 if taken.summary is None else taken.summary.computed_share,
        }
    return results


def write_videos(folder: Path, videos: dict[str, torch.Tensor], fps: int) -> None:
    """The uncached video, the cached one, and both side by side, enlarged where they are tiny."""
    frames = {tier: to_uint8(video) for tier, video in videos.items()}
    ours = frames[list(frames)[-1]]
    factor = max(1, -(-WATCHABLE_WIDTH // ours.shape[2]))
    write_mp4(folder / "vanilla.mp4", frames["vanilla"], fps=fps)
    write_mp4(folder / "motioncache.mp4", ours, fps=fps)
    both = side_by_side([enlarge(frames["vanilla"], factor), enlarge(ours, factor)])
    write_mp4(folder / "side_by_side.mp4", both, fps=fps)


def check_output(output: Path) -> None:
    """Refuse a folder that cannot be written, before the model is loaded."""
    existing = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise MotionCacheError(f"output={output} cannot be written: {existing} is a file; pass a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise MotionCacheError(f"output={output} cannot be written: no permission for {existing}; pass another folder")


def create_folder(output: Path, preset: str) -> Path:
    """A new folder for this run; a folder that exists is never touched."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(preset).stem}"
    for attempt in range(100):
        folder = output / (stem if not attempt else f"{stem}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            message = f"output={output} cannot be written: {error.strerror}; pass another folder"
            raise MotionCacheError(message) from None
        return folder
    raise MotionCacheError(f"{output} holds a hundred runs of this second; wait a moment")


def figures_of(result: dict[str, float]) -> list[str]:
    """One tier's `FIGURES`."""
    return [
        f"{result['seconds']:.2f}",
        f"{result['speedup']:.2f}x",
        f"{result['flops'] / 1e12:.3f}",
        f"{result['computed_share']:.1%}",
        f"{result['psnr_db']:.2f}",
        f"{result['ssim']:.4f}",
    ]


def print_table(results: dict[str, dict[str, float]]) -> None:
    """Seconds, speed-up, FLOPs and fidelity of every tier."""
    print("\n" + " " * 12 + "".join(f"{name:>10s}" for name in FIGURES))
    for tier, result in results.items():
        print(f"{tier:12s}" + "".join(f"{figure:>10s}" for figure in figures_of(result)))
    print("PSNR and SSIM against vanilla, on decoded frames; 120 dB stands for identical\n")
